from __future__ import annotations

import pytest

from serving.gateway.endpoints import COMPLETIONS
from serving.gateway.errors import BadRequest, Forbidden, GatewayError, IdentityUnavailable, Unauthorized
from serving.gateway.steps.authenticate import authenticate, check_endpoint, check_scope, presented_key
from serving.identity import Principal, Rejected
from tests.support.questions import request

ANNA = Principal("key_1", "acme")


class Keys:
    """An identity that knows one key at once, one token after a look at its issuer, and refuses others."""

    def __init__(self, rejected: Rejected | None = None) -> None:
        self._rejected = rejected

    def authenticate(self, presented: str) -> Principal | None:
        return ANNA if presented == "sk-known" else None

    async def verify(self, presented: str) -> Principal:
        if self._rejected is not None:
            raise self._rejected
        return ANNA


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({b"authorization": b"Bearer sk-1"}, "sk-1"),
        ({b"authorization": b"bearer  sk-1 "}, "sk-1"),
        ({b"x-api-key": b" sk-1 "}, "sk-1"),
        ({b"authorization": b"Bearer sk-1", b"x-api-key": b"sk-1"}, "sk-1"),
        ({b"authorization": b"", b"x-api-key": b"sk-1"}, "sk-1"),
        ({b"authorization": b"Bearer \xe9"}, "é"),
    ],
)
def test_the_key_is_in_one_of_two_headers(headers: dict[bytes, bytes], key: str) -> None:
    assert presented_key(headers) == key


@pytest.mark.parametrize(
    "headers",
    [{}, {b"authorization": b"sk-1"}, {b"authorization": b"Basic c2sx"}, {b"authorization": b"Bearer "}],
    ids=["none", "no scheme", "another scheme", "an empty key"],
)
def test_no_key_is_told_how_to_send_one(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(Unauthorized) as refused:
        presented_key(headers)
    assert refused.value.code == "missing_api_key"
    assert (b"www-authenticate", b"Bearer") in refused.value.headers


def test_two_keys_are_nobodys() -> None:
    with pytest.raises(BadRequest) as refused:
        presented_key({b"authorization": b"Bearer sk-1", b"x-api-key": b"sk-2"})
    assert refused.value.code == "two_api_keys"
    assert "sk-" not in refused.value.message


@pytest.mark.parametrize("key", [b"Bearer sk-known", b"Bearer a.token.of-an-issuer"])
async def test_the_holder_is_found(key: bytes) -> None:
    context = request(headers={b"authorization": key}, principal=None)

    await authenticate(context, Keys())  # type: ignore[arg-type]

    assert context.principal == ANNA


@pytest.mark.parametrize(("status", "error"), [(401, Unauthorized), (403, Forbidden), (503, IdentityUnavailable)])
async def test_who_is_not_let_in_is_told_why(status: int, error: type[GatewayError]) -> None:
    keys = Keys(Rejected("No.", code="some_code", status=status))

    with pytest.raises(error) as refused:
        await authenticate(request(headers={b"x-api-key": b"sk-unknown"}), keys)  # type: ignore[arg-type]
    assert (refused.value.message, refused.value.code) == ("No.", "some_code")


def test_a_key_is_kept_to_its_endpoints() -> None:
    holder = {"endpoints": frozenset({"chat"})}
    check_endpoint(request(holder=holder))

    with pytest.raises(Forbidden) as refused:
        check_endpoint(request(endpoint=COMPLETIONS, holder=holder))
    assert refused.value.code == "endpoint_not_allowed"


@pytest.mark.parametrize(("model", "allowed"), [("small", True), ("team/a", True), ("large", False), ("Small", False)])
def test_a_key_is_kept_to_its_models(model: str, allowed: bool) -> None:
    context = request({"model": model}, holder={"models": frozenset({"small", "team/*"})})

    if allowed:
        check_scope(context)
        return
    with pytest.raises(Forbidden) as refused:
        check_scope(context)
    assert (refused.value.code, refused.value.param) == ("model_not_allowed", "model")
