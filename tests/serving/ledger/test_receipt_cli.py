"""`signet verify` and `signet receipts`, with a real registry: from a text down to data and base."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serving.ledger import Ledger
from serving.ledger.receipt_cli import verify
from serving.provenance.receipts import (
    AnswerClaims,
    AnswerDigests,
    Receipt,
    ReceiptIssuer,
    ReceiptKeys,
    RecordedReceipt,
)
from serving.provenance.receipts.cli import receipts
from serving.provenance.receipts.jws import b64, unb64
from tests.support.ledgers import a_record
from training.registry import Checkpoint, DataDigest, ManifestDraft, RecipeRecord, Registry

REQUEST = "req_0123456789abcdef01234567"
QUESTION = {"model": "m", "messages": [{"role": "user", "content": "How large?"}]}
TEXT = "Large."
DATA = DataDigest(name="train.jsonl", sha256="12" * 32, rows=120, role="train")
Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("SIGNET_HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def signet(home: Path) -> Run:
    from serving.settings import load_settings

    def run(*arguments: str, stdin: str | None = None) -> Result:
        command = {"verify": verify, "receipts": receipts}[arguments[0]]
        return CliRunner().invoke(command, arguments[1:], obj=load_settings, input=stdin, catch_exceptions=False)

    return run


@pytest.fixture
def checkpoint(home: Path, tmp_path: Path) -> Checkpoint:
    """`bot@1`, fine-tuned from `base@1` on one file of data."""
    registry = Registry(home / "registry", home / "keys")

    def registered(name: str, draft: ManifestDraft) -> Checkpoint:
        folder = tmp_path / f"made-{name}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(name.encode())
        (folder / "config.json").write_text("{}")
        return registry.register(folder, name, draft)

    base = registered("base", ManifestDraft(kind="base"))
    made = {"recipe": RecipeRecord(name="lora-sft"), "data": [DATA]}
    return registered("bot", ManifestDraft(kind="merged", base=base.manifest.as_ref(), **made))


def recorded(home: Path, **known: Any) -> RecordedReceipt:
    digests = AnswerDigests(QUESTION)
    digests.text(0).add(TEXT)
    said = {"endpoint": "chat", "model": "bot", "policy": "ab" * 32, "mark": "gumbel", "mark_key": "mk1-01"}
    answer = AnswerClaims(**{**said, "prompt_tokens": 5, "completion_tokens": 2, "finish_reason": "stop", **known})
    keys = ReceiptKeys.open(home / "receipt-keys.json", create=True)
    return ReceiptIssuer(keys, "signet").record(REQUEST, "acme", answer, digests)


def issue(home: Path, **known: Any) -> Receipt:
    return recorded(home, **known).sign()


def record(home: Path, record: str) -> None:
    async def write() -> None:
        ledger = Ledger(f"sqlite:///{home / 'signet.db'}")
        ledger.start()
        await ledger.commit(a_record(request_id=REQUEST, receipt=record))
        await asyncio.to_thread(ledger.stop)

    asyncio.run(write())


@pytest.fixture
def receipt(home: Path, checkpoint: Checkpoint) -> Receipt:
    return issue(home, manifest=checkpoint.digest)


@pytest.fixture
def answer_file(tmp_path: Path) -> str:
    (tmp_path / "answer.txt").write_text(TEXT + "\n")
    return "answer.txt"


def test_a_text_is_followed_down_to_data_and_base(
    signet: Run, receipt: Receipt, answer_file: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "prompt.json").write_text(json.dumps(QUESTION))

    done = signet("verify", receipt.opened, "--text", answer_file, "--prompt", "prompt.json", "--tenant", "acme")

    lines = {line.split()[0]: line for line in reversed(done.output.splitlines())}
    assert done.exit_code == 0, done.output
    assert "ok  signed by signet for an answer of " in lines["receipt"]
    assert lines["text"] == "text      ok  is the released answer, to the letter"
    assert lines["prompt"] == "prompt    ok  is the question that was asked, as it was sent"
    assert lines["tenant"] == "tenant    ok  the answer was acme's"
    assert f"ok  bot@1, {checkpoint.digest}; manifest signed, every byte as signed" in lines["model"]
    assert f"ok  train.jsonl (train, 120 rows, sha256:{DATA.sha256}): in the manifest of bot@1" in lines["data"]
    assert "by recipe lora-sft" in done.output
    assert "ok  base@1, sha256:" in done.output
    assert lines["request"] == f"request       {REQUEST}: chat, bot, 5 + 2 tokens, ended by stop"
    assert lines["mark"].endswith("gumbel;key=mk1-01")
    assert done.output.splitlines()[-1] == "VERIFIED"


def test_what_was_not_looked_at_is_named(signet: Run, home: Path, tmp_path: Path) -> None:
    foreign = issue(home)

    done = signet("verify", foreign.signed)

    assert done.exit_code == 0
    assert "model     --  bot: its engine announced no manifest, so its weights are not known" in done.output
    assert done.output.splitlines()[-1] == "VERIFIED; not checked: text, prompt, model, data, base"


def test_json_says_the_same(signet: Run, receipt: Receipt, answer_file: str) -> None:
    done = signet("verify", receipt.opened, "--text", answer_file, "--json")

    found = json.loads(done.stdout)
    assert found["verified"]
    assert [check["subject"] for check in found["checks"]] == [
        "receipt",
        "text",
        "model",
        "data",
        "base",
        "data",
        "base",
    ]
    assert found["claims"]["jti"] == REQUEST


def test_a_changed_text_is_not_verified(signet: Run, receipt: Receipt) -> None:
    done = signet("verify", receipt.opened, "--text", "-", stdin="Larger.")

    assert done.exit_code == 1
    assert done.output.splitlines()[-1].startswith("NOT VERIFIED: text: is not what was released")


def test_a_text_that_cannot_be_compared_is_not_verified(signet: Run, receipt: Receipt, answer_file: str) -> None:
    done = signet("verify", receipt.signed, "--text", answer_file)

    assert done.exit_code == 1
    assert "NOT VERIFIED: text: the receipt came without the salt of its answer" in done.output


def test_a_changed_checkpoint_is_not_verified(signet: Run, receipt: Receipt, checkpoint: Checkpoint) -> None:
    weights = checkpoint.path / "model.safetensors"
    weights.chmod(0o600)
    weights.write_bytes(b"bit")

    done = signet("verify", receipt.opened)

    assert done.exit_code == 1
    assert "NOT VERIFIED: model: checkpoint bot@1 does not verify: model.safetensors" in done.output


def test_a_base_that_is_gone_is_named(signet: Run, receipt: Receipt, home: Path) -> None:
    (home / "registry" / "base").rename(home / "elsewhere")

    done = signet("verify", receipt.opened)

    assert done.exit_code == 0
    assert "base      --  base@1 is sha256:" in done.output


def test_a_registry_that_is_named_must_have_the_checkpoint(signet: Run, receipt: Receipt, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    done = signet("verify", receipt.opened, "--registry", "empty")

    assert done.exit_code == 1
    assert "which is not in the registry empty" in done.output


def test_a_forged_receipt_is_not_verified(signet: Run, receipt: Receipt) -> None:
    head, payload, signature = receipt.signed.split(".")

    done = signet("verify", f"{head}.{payload[:-4]}AAAA.{signature}")

    assert done.exit_code == 1
    assert done.output.splitlines()[-1].startswith("NOT VERIFIED: receipt: was changed after it was signed")


@pytest.mark.parametrize("as_before", [False, True])
@pytest.mark.parametrize("rotated", [False, True])
def test_the_ledger_gives_a_receipt_by_its_request(
    signet: Run, checkpoint: Checkpoint, home: Path, answer_file: str, as_before: bool, rotated: bool
) -> None:
    made = recorded(home, manifest=checkpoint.digest)
    record(home, made.sign().signed if as_before else made.record)
    if rotated:
        signet("receipts", "rotate")

    done = signet("verify", "--request-id", REQUEST, "--text", answer_file)

    assert done.exit_code == 0, done.output
    assert f"record    ok  is on record in the ledger as {REQUEST}" in done.output
    assert "tenant    ok  the answer was acme's" in done.output
    assert "text      ok" in done.output


@pytest.mark.parametrize("rotated", [False, True])
def test_a_receipt_is_compared_with_the_one_on_record(signet: Run, home: Path, rotated: bool) -> None:
    made = recorded(home)
    record(home, made.record)
    if rotated:
        signet("receipts", "rotate")

    done = signet("verify", made.sign().opened, "--request-id", REQUEST)

    assert done.exit_code == 0, done.output
    assert f"record    ok  is on record in the ledger as {REQUEST}" in done.output


def test_a_record_that_somebody_edited_is_not_verified(signet: Run, home: Path) -> None:
    head, payload, seal = recorded(home).record.split(".")
    edited = b64(unb64(payload).replace(b'"completion_tokens":2', b'"completion_tokens":1'))
    record(home, f"{head}.{edited}.{seal}")

    done = signet("verify", "--request-id", REQUEST)
    as_json = json.loads(signet("verify", "--request-id", REQUEST, "--json").stdout)

    assert done.exit_code == 1
    assert done.output.splitlines()[-1].startswith("NOT VERIFIED: record: was changed after it was recorded")
    assert (as_json["verified"], as_json["claims"]) == (False, None)


def test_another_receipt_than_the_one_on_record_is_not_verified(signet: Run, receipt: Receipt, home: Path) -> None:
    record(home, recorded(home, completion_tokens=3).record)

    done = signet("verify", receipt.opened, "--request-id", REQUEST)

    assert done.exit_code == 1
    assert "NOT VERIFIED: record: another receipt is on record" in done.output


@pytest.fixture
def published(home: Path, receipt: Receipt) -> Iterator[str]:
    """The issuer's keys behind a URL."""
    content = json.dumps(ReceiptKeys.open(home / "receipt-keys.json").jwks()).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Keys)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/.well-known/jwks.json"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_third_party_needs_no_more_than_the_public_keys(
    signet: Run, receipt: Receipt, home: Path, answer_file: str, tmp_path: Path, published: str
) -> None:
    (tmp_path / "jwks.json").write_text(signet("receipts", "keys").output)
    (tmp_path / "saved.txt").write_text(f"HTTP/1.1 200 OK\r\nx-signet-receipt: {receipt.opened}\r\n")
    (home / "receipt-keys.json").unlink()
    (home / "registry").rename(home / "gone")

    for keys in ("jwks.json", published):
        done = signet("verify", "saved.txt", "--jwks", keys, "--text", answer_file)
        assert done.exit_code == 0, done.output
        assert done.output.splitlines()[-1] == "VERIFIED; not checked: prompt, model, data, base"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Give a receipt, or --request-id."),
        (("nothing",), "'nothing' is neither a receipt nor a file"),
        (("answer.txt",), "there is no receipt in answer.txt"),
        (("--request-id", "req_none"), "the ledger has no receipt of 'req_none'"),
        (("RECEIPT", "--jwks", "none.json"), "cannot read the keys at none.json: No such file or directory"),
        (("RECEIPT", "--jwks", "answer.txt"), "cannot read the keys at answer.txt: this is no set of JSON Web Keys"),
        (("RECEIPT", "--jwks", "http://127.0.0.1:9/"), "cannot read the keys at http://127.0.0.1:9/: "),
        (("RECEIPT", "--text", "none.txt"), "none.txt"),
    ],
)
def test_mistakes_end_in_one_line(
    signet: Run, receipt: Receipt, answer_file: str, arguments: tuple[str, ...], said: str
) -> None:
    done = signet("verify", *(receipt.opened if argument == "RECEIPT" else argument for argument in arguments))

    assert done.exit_code in (1, 2)
    assert said in done.output
    assert len([line for line in done.output.splitlines() if line.startswith("Error")]) == 1


def test_keys_are_listed_rotated_and_published_without_secrets(signet: Run, home: Path) -> None:
    missing = signet("receipts", "list")
    made = json.loads(signet("receipts", "rotate", "--json").output)
    rotated = signet("receipts", "rotate").output
    listed = signet("receipts", "list").output.splitlines()
    published = json.loads(signet("receipts", "keys").output)
    secrets = [entry[name] for entry in _entries(home) for name in ("salt_secret", "private") if name in entry]

    assert missing.exit_code == 1
    assert "there is no file of receipt keys" in missing.output
    assert [line.split()[0] for line in listed] == [key["kid"] for key in published["keys"]]
    assert listed[0].startswith(f"{made['kid']}  made ")
    assert "retired" in listed[0]
    assert listed[1].endswith("signs")
    assert rotated == f"{published['keys'][1]['kid']} signs from now on.\n"
    assert not any(secret in json.dumps(published) + "".join(listed) for secret in secrets if secret)


def _entries(home: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((home / "receipt-keys.json").read_text())["keys"]
    return entries
