"""Keys come before bodies, on every path there is, and before FastAPI sees a request."""

from __future__ import annotations

import json
import socket
import time
from http.client import HTTPResponse
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter, ValidationError

from serving.gateway.api.access import MAX_VALUES, PUBLIC_PATHS, _has_too_many_values
from serving.gateway.api.detection import DetectRequest
from serving.gateway.api.moderations import ModerationRequest
from serving.gateway.app import PROBE_PATHS
from tests.support.gateways import RunningGateway

LIMIT = 2 * 1024 * 1024
PRESENTED = {
    "none": "X-Nothing: 1",
    "unknown": "Authorization: Bearer sk-signet-nobody",
    "no bearer": "Authorization: Basic YTpi",
    "unknown, as Anthropic's clients send it": "X-Api-Key: sk-signet-nobody",
    "a token of nobody's": "Authorization: Bearer e30.e30.e30",
    "expects": "Expect: 100-continue",
}


def early_answer(
    gateway: RunningGateway, method: str, path: str, *lines: str, length: int = 1_000_000
) -> tuple[int, str, str | None]:
    """Status, code and request id of the answer to a head whose body never comes."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    head = [f"{method} {path} HTTP/1.1", "Host: here", "Content-Type: application/json", *lines]
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall("\r\n".join([*head, f"Content-Length: {length}", "", ""]).encode())
        response = HTTPResponse(connection)
        response.begin()
        error = json.loads(response.read())["error"]
        return response.status, error.get("code"), response.getheader("x-request-id")


def operations(gateway: RunningGateway) -> list[tuple[str, str]]:
    paths = httpx.get(f"{gateway.url}/openapi.json").json()["paths"]
    described = [(method.upper(), path.replace("{", "").replace("}", "")) for path in paths for method in paths[path]]
    return [(method, path) for method, path in described if path not in {*PUBLIC_PATHS, *PROBE_PATHS}]


@pytest.mark.parametrize("presented", PRESENTED)
def test_a_stranger_is_refused_before_a_body_is_read(gateway: RunningGateway, presented: str) -> None:
    for method, path in operations(gateway):
        status, _, request_id = early_answer(gateway, method, path, PRESENTED[presented])
        assert (path, status) == (path, 401)
        assert request_id


def test_who_is_no_administrator_is_refused_before_a_body_is_read(gateway: RunningGateway) -> None:
    key = f"Authorization: Bearer {gateway.new_key()}"
    for method, path in operations(gateway):
        if path.startswith("/admin"):
            assert early_answer(gateway, method, path, key)[:2] == (403, "admin_only")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/nothing", "/admin", "/admin/nothing", "/v1", "/redoc", "/admin/keys/", "/docs/"])
def test_a_path_that_is_none_is_not_found_whoever_asks(gateway: RunningGateway, method: str, path: str) -> None:
    """Nothing is given away, our routes are no secret; and no redirect says what the client wrote as its host."""
    for line in ("X-Nothing: 1", f"Authorization: Bearer {gateway.key}"):
        assert early_answer(gateway, method, path, line)[:2] == (404, "not_found")


def test_the_wrong_method_is_refused_before_a_body_is_read(gateway: RunningGateway) -> None:
    key = {"authorization": f"Bearer {gateway.key}"}
    refused = httpx.delete(f"{gateway.url}/admin/keys", headers=key)

    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")
    assert early_answer(gateway, "PATCH", "/v1/moderations", f"X-Api-Key: {gateway.key}")[:2] == (
        405,
        "method_not_allowed",
    )


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/provenance/detect", "/v1/provenance/verify", "/admin/keys"])
def test_what_is_no_question_has_a_smaller_bound(gateway: RunningGateway, path: str) -> None:
    key = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
    announced = early_answer(gateway, "POST", path, f"Authorization: Bearer {gateway.key}", length=LIMIT + 1)
    chunks = (b" " * 65_536 for _ in range(LIMIT // 65_536 + 1))
    chunked = httpx.post(f"{gateway.url}{path}", headers=key, content=chunks)

    assert announced[:2] == (413, "request_too_large")
    assert (chunked.status_code, chunked.json()["error"]["code"]) == (413, "request_too_large")


def test_two_different_keys_are_refused_and_the_same_twice_is_not(gateway: RunningGateway) -> None:
    for path in ("/v1/models", "/admin/keys"):
        for other, status in ((gateway.key, 200), ("sk-other", 400)):
            headers = {"authorization": f"Bearer {gateway.key}", "x-api-key": other}
            found = httpx.get(f"{gateway.url}{path}", headers=headers)
            assert found.status_code == status
            assert status == 200 or found.json()["error"]["code"] == "two_api_keys"


def test_the_admin_api_takes_a_key_as_anthropics_clients_send_it(gateway: RunningGateway) -> None:
    assert httpx.get(f"{gateway.url}/admin/keys", headers={"x-api-key": gateway.key}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"input": [' + b"[]," * MAX_VALUES + b"[]]}", id="lists"),
        pytest.param(b'{"input": [' + b"{}," * MAX_VALUES + b"{}]}", id="objects"),
        pytest.param(b'{"input": [' + b"1," * MAX_VALUES + b"1]}", id="numbers"),
        pytest.param(b"[" * MAX_VALUES * 2, id="depth"),
        pytest.param(b'{"a": "\\\\", "b": [' + b"1," * MAX_VALUES + b"1]}", id="behind a backslash"),
    ],
)
def test_a_body_of_too_many_values_is_not_decoded(gateway: RunningGateway, body: bytes) -> None:
    headers = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
    found = httpx.post(f"{gateway.url}/v1/moderations", content=body, headers=headers)
    assert (found.status_code, found.json()["error"]["code"]) == (400, "request_too_complex")


@pytest.mark.parametrize(
    ("content_type", "body", "code", "words"),
    [
        ("application/json", b'{"input": "a"', "invalid_json", "not valid JSON"),
        ("application/json", b"[]", "invalid_request", "Content-Type: application/json"),
        ("text/plain", b'{"input": "a"}', "invalid_request", "Content-Type: application/json"),
    ],
)
def test_a_body_that_is_no_json_object_is_told_so(
    gateway: RunningGateway, content_type: str, body: bytes, code: str, words: str
) -> None:
    headers = {"authorization": f"Bearer {gateway.key}", "content-type": content_type}
    found = httpx.post(f"{gateway.url}/v1/moderations", content=body, headers=headers)
    assert (found.status_code, found.json()["error"]["code"], found.json()["error"]["param"]) == (400, code, None)
    assert words in found.json()["error"]["message"]


@pytest.mark.parametrize("text", ["1," * MAX_VALUES, '\\",[{' * MAX_VALUES, '"' + '\\"[' * MAX_VALUES])
def test_what_stands_in_a_string_is_no_value(text: str) -> None:
    assert not _has_too_many_values(json.dumps({"text": text}).encode())


@pytest.mark.parametrize("value", [[], {}, 1, "x", None, [1, "x"]], ids=repr)
def test_a_long_list_of_wrong_values_is_a_few_errors(value: Any) -> None:
    """Each error is an object of its own: a hundred thousand take seconds of the event loop."""
    many = [value] * 20_000 + [{}]
    for model, body in (
        (ModerationRequest, {"input": many}),
        (DetectRequest, dict.fromkeys(("text", "texts", "schemes", "logprobs", "top_logprobs"), many)),
        (DetectRequest, {"text": "x", "logprobs": [[value] * 20_000], "top_logprobs": [many]}),
    ):
        with pytest.raises(ValidationError) as caught:
            TypeAdapter[Any](model).validate_python(body)
        assert caught.value.error_count() < 1000


def test_a_stranger_who_keeps_sending_is_cut_off(gateway: RunningGateway) -> None:
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /v1/moderations HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError, match=r"reset|[Bb]roken|abort"):
            _keep_sending(connection)


def _keep_sending(connection: socket.socket) -> None:
    began = time.monotonic()
    while time.monotonic() - began < 30:
        connection.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
