import hashlib
import json
from pathlib import Path

import pytest

from training.data import read_chats
from training.errors import DataError

GOOD = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'


def test_reads_lines_with_their_places_and_digests_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(f"{GOOD}\n\n{GOOD}\r\n")

    read = read_chats(path)

    assert [chat.source for chat in read.items] == [f"{path}:1", f"{path}:3"]
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_keys_of_other_tools_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(GOOD[:-1] + ', "id": 7, "source": "elsewhere"}')

    assert read_chats(path).items[0].source == f"{path}:1"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "is not JSON: Expecting property name enclosed in double quotes at character 2"),
        ("[]", "is not a JSON object"),
        ("\x00", "is not JSON"),
        ('{"message": []}', "is not a chat (it has message): write"),
        ('{"messages": "hello"}', "messages: Input should be a valid list"),
        ('{"messages": []}', "no message has the role assistant"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "no message has the role assistant"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "the assistant speaks before any user does"),
        ('{"messages": [{"role": "bot", "content": "a"}]}', "messages.0.role: Input should be 'system', 'user'"),
        ('{"messages": [{"role": "user", "content": 5}]}', "messages.0.content: Input should be a valid string"),
        ('{"messages": [{"role": "user"}]}', "messages.0: a message needs content or tool_calls"),
        (GOOD[:-2] + ', {"role": "system", "content": "x"}]}', "only the first message may have the role system"),
    ],
)
def test_bad_line_is_named_with_its_file_and_number(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(f"{GOOD}\n{line}\n")

    with pytest.raises(DataError) as raised:
        read_chats(path)

    assert str(raised.value).startswith(f"{path}:2: ")
    assert why in str(raised.value)
    assert "\n" not in str(raised.value)


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(b'{"messages": "\xff"}')

    with pytest.raises(DataError, match=r"chats\.jsonl:1: "):
        read_chats(path)


def test_empty_and_absent_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")

    with pytest.raises(DataError, match=r"empty\.jsonl: holds no chats"):
        read_chats(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match=r"absent\.jsonl: cannot be read: No such file"):
        read_chats(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_files_of_other_systems_are_read(tmp_path: Path, encoding: str, line_end: str) -> None:
    path = tmp_path / "chats.jsonl"
    said = GOOD.replace('"a"', '"naïve\u2028 ไทย"')
    path.write_bytes(f"{said}{line_end}{line_end}{GOOD}{line_end}".encode(encoding))

    read = read_chats(path)

    assert [chat.source for chat in read.items] == [f"{path}:1", f"{path}:3"]
    assert read.items[0].messages[0].content == "naïve\u2028 ไทย"
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_half_a_utf16_character_is_named(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(GOOD.encode("utf-16")[:-1])

    with pytest.raises(DataError, match="is not UTF-16: save the file as UTF-8"):
        read_chats(path)


def chat_of(*messages: dict[str, object]) -> str:
    return json.dumps({"messages": [{"role": "user", "content": "a"}, *messages]})


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (chat_of({"role": "assistant", "content": "b", "weight": 0}), "every answer has weight 0"),
        (chat_of({"role": "assistant", "content": "b", "weight": 0.5}), "messages.1.weight: Input should be 0 or 1"),
        (chat_of({"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]}), "are not JSON"),
        (chat_of({"role": "assistant", "tool_calls": [{"function": {"arguments": "[1]"}}]}), "are not a JSON object"),
        (chat_of({"role": "assistant", "tool_calls": [{"name": "f"}]}), "a tool call is {"),
    ],
)
def test_weights_and_tool_calls_are_checked(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(line)

    with pytest.raises(DataError) as raised:
        read_chats(path)

    assert why in str(raised.value)
