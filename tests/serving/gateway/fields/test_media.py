"""No engine is sent for media to where its operator does not want it."""

from __future__ import annotations

from typing import Any

import pytest

from serving.gateway.errors import BadRequest
from serving.gateway.fields.media import MediaHosts

EVIL = [
    "http://169.254.169.254/latest/meta-data/",
    "HTTP://169.254.169.254/",
    " http://169.254.169.254/",
    "\thttps://localhost/",
    "//169.254.169.254/x",
    "file:///etc/passwd",
    "/etc/passwd",
    "C:\\windows\\win.ini",
    "ftp://example.org/x.png",
    "gopher://x",
    "http://cdn.example.org@169.254.169.254/",
    "http://cdn.example.org\\@169.254.169.254/",
    "http://cdn.example.org.evil.net/",
    "https://cdn.example.org:80@evil.net/",
    "pictures/secret.png",
    "s3://bucket/key",
]
FORBIDDEN = {"type": "image_url", "image_url": {"url": EVIL[0]}}
SHAPES: dict[str, Any] = {
    "image_url": {"type": "image_url", "image_url": {"url": "URL", "detail": "low"}},
    "image_url as text": {"type": "image_url", "image_url": "URL"},
    "no type": {"image_url": {"url": "URL"}},
    "beside a text": {"content": "look", "image_url": {"url": "URL"}},
    "video": {"type": "video_url", "video_url": {"url": "URL"}},
    "audio": {"type": "audio_url", "audio_url": {"url": "URL"}},
    "input_audio": {"type": "input_audio", "input_audio": {"data": "URL", "format": "wav"}},
    "input_image": {"type": "input_image", "image_url": "URL", "detail": "auto"},
    "input_file": {"type": "input_file", "file_url": "URL"},
    "file": {"type": "file", "file": {"file_data": "URL", "filename": "a.pdf"}},
    "file url": {"type": "file", "file": {"url": "URL"}},
    "source": {"type": "image", "source": {"type": "url", "url": "URL"}},
    "document": {"type": "document", "source": {"type": "url", "url": "URL"}, "title": "a"},
    "nested document": {"type": "document", "source": {"type": "content", "content": [{"image_url": "URL"}]}},
    "tool result": {
        "type": "tool_result",
        "tool_use_id": "1",
        "content": [{"type": "image", "source": {"url": "URL"}}],
    },
    "image": {"type": "image", "image": "URL"},
    "images": {"type": "image", "images": ["URL"]},
    "image with url": {"type": "image", "url": "URL"},
    "video frames": {"type": "video", "video": ["URL"]},
    "of tomorrow": {"type": "hologram", "hologram_url": {"href": "URL"}},
}


def put(value: Any, url: str) -> Any:
    if isinstance(value, dict):
        return {key: put(item, url) for key, item in value.items()}
    if isinstance(value, list):
        return [put(item, url) for item in value]
    return url if value == "URL" else value


def bodies(part: Any) -> list[dict[str, Any]]:
    message = {"role": "user", "content": [{"type": "text", "text": "see http://169.254.169.254"}, part]}
    return [
        {"messages": [message]},
        {"messages": [{"role": "tool", "content": part}]},
        {"messages": [[message]]},
        {"input": [message]},
        {"input": [{"type": "function_call_output", "call_id": "1", "output": [part]}]},
        {"input": [{"type": "computer_call_output", "output": part}]},
        {"input": [part]},
        {"system": [part]},
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_media_are_not_fetched_from_anywhere(shape: str) -> None:
    hosts = MediaHosts(["cdn.example.org", "*.pictures.example.org"])
    for url in EVIL:
        for body in bodies(put(SHAPES[shape], url)):
            if shape.startswith(("input_audio", "file")) and ":" not in url and "." not in url and "\\" not in url:
                continue  # data without an address: nothing is fetched
            with pytest.raises(BadRequest) as refused:
                hosts.check(body)
            assert refused.value.code == "media_not_allowed"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,iVBORw0KGgo=",
        "DATA:image/png;base64,iVBORw0KGgo=",
        "https://cdn.example.org/a.png?x=1",
        "http://a.pictures.example.org:8080/b.png",
        "UklGRiQAAABXQVZF" * 8,
    ],
)
def test_data_and_allowed_hosts_pass(shape: str, url: str) -> None:
    hosts = MediaHosts(["cdn.example.org", "*.pictures.example.org"])
    for body in bodies(put(SHAPES[shape], url)):
        hosts.check(body)

    with pytest.raises(BadRequest):
        hosts.check({"messages": [{"role": "user", "content": [FORBIDDEN]}]})


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "http://169.254.169.254 and file:///etc/passwd"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "file:///etc/passwd"}]}]},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": {"image_url": "http://a"}}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": '{"image_url": "http://a"}'}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "search_result", "source": "http://a.b"}]}]},
        {"messages": [{"role": "assistant", "content": None, "audio": {"id": "audio_1"}}]},
        {"input": [{"type": "message", "role": "assistant", "content": [
            {"type": "output_text", "text": "a", "annotations": [{"type": "url_citation", "url": "https://a.b"}]}]}]},
        {"input": [{"type": "web_search_call", "action": {"type": "open_page", "url": "https://a.b"}}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": [], "image_url": None}]}]},
        {"messages": "text", "input": {"a": 1}, "system": "http://a"},
    ],
)  # fmt: skip
def test_text_about_addresses_is_no_media(body: dict[str, Any]) -> None:
    hosts = MediaHosts([])
    hosts.check(body)

    with pytest.raises(BadRequest):
        hosts.check({**body, "messages": [{"role": "user", "content": [FORBIDDEN]}]})


def test_a_server_that_the_engine_would_call_needs_an_allowed_host() -> None:
    tool = {"type": "mcp", "server_label": "a", "server_url": "https://cdn.example.org/mcp"}
    schema = {"type": "function", "name": "f", "parameters": {"properties": {"server_url": {"type": "string"}}}}

    MediaHosts(["cdn.example.org"]).check({"tools": [tool, schema]})
    with pytest.raises(BadRequest) as refused:
        MediaHosts([]).check({"tools": [schema, tool]})
    assert refused.value.param == "tools[1].server_url"


def test_deep_nesting_ends_in_a_refusal() -> None:
    part: Any = {"type": "text", "text": "a"}
    for _ in range(500):
        part = {"type": "tool_result", "content": [part]}
    with pytest.raises(BadRequest) as refused:
        MediaHosts([]).check({"messages": [{"role": "user", "content": [part]}]})
    assert refused.value.code == "request_too_deep"
