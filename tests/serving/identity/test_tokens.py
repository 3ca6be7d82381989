"""Tokens of a real issuer: let in as their tenant, refused when anything about them does not hold, keys rotated."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.identity import Budget, Identity, IdentitySettings, Limits, Rejected, jwks
from serving.identity import identity as identity_module
from serving.identity.settings import JwtSettings, TokenGrant
from serving.identity.tokens import TokenVerifier, VerifiedToken
from tests.support.issuer import Issuer, make_certificate


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    issuer.add_key("one")
    yield issuer
    issuer.close()


@pytest.fixture
def make(issuer: Issuer, tmp_path: Path) -> Iterator[Callable[..., Identity]]:
    """An identity that trusts the issuer, with a tenant `acme`."""
    made: list[Identity] = []

    def make_one(**changes: Any) -> Identity:
        trusted = JwtSettings(**{"issuer": issuer.url, "audience": ["signet"], **changes})
        identity = Identity(f"sqlite:///{tmp_path / 'signet.db'}", IdentitySettings(jwt=trusted, poll_interval_s=0.02))
        if "acme" not in identity.tenants():
            identity.create_tenant("acme")
        made.append(identity)
        return identity

    yield make_one
    for identity in made:
        identity.close()


async def rejection(identity: Identity, token: str) -> tuple[str, int]:
    assert identity.authenticate(token) is None
    with pytest.raises(Rejected) as raised:
        await identity.verify(token)
    assert token not in raised.value.message
    assert "\n" not in raised.value.message
    return raised.value.code, raised.value.status


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
async def test_a_token_is_let_in_as_its_tenant(issuer: Issuer, make: Callable[..., Identity], algorithm: str) -> None:
    issuer.add_key("two", algorithm)
    identity = make()
    identity.update_tenant("acme", weight=2.0, priority=1, concurrency=5)
    identity.set_budget(Budget("tenant", "acme", "day", 10))
    token = issuer.token("two")

    principal = await identity.verify(token)

    assert (principal.tenant, principal.admin, principal.models, principal.endpoints) == ("acme", False, None, None)
    assert (principal.weight, principal.priority, principal.tenant_limits) == (2.0, 1, Limits(concurrency=5))
    assert principal.budgets == (Budget("tenant", "acme", "day", 10),)
    assert "ada" not in principal.key_id
    assert identity.authenticate(token) is principal, "remembered"


async def test_api_keys_go_on_beside_tokens(make: Callable[..., Identity]) -> None:
    identity = make()

    assert identity.authenticate(identity.create_key("acme").key) is not None
    assert await rejection(identity, "sk-signet-unknown") == ("invalid_api_key", 401)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"exp": 1_700_000_000}, "token_expired"),
        ({"exp": None}, "invalid_token"),
        ({"exp": "soon"}, "invalid_token"),
        ({"nbf": 4_000_000_000}, "invalid_token"),
        ({"iss": "https://evil.example"}, "invalid_token"),
        ({"iss": None}, "invalid_token"),
        ({"aud": "another"}, "invalid_token"),
        ({"aud": None}, "invalid_token"),
        ({"sub": None}, "invalid_token"),
    ],
)
async def test_claims_must_hold(
    issuer: Issuer, make: Callable[..., Identity], changes: dict[str, Any], code: str
) -> None:
    assert await rejection(make(), issuer.token(**changes)) == (code, 401)


async def test_a_token_ends_when_it_expires_though_it_is_remembered(
    issuer: Issuer, make: Callable[..., Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = make(leeway_s=10)
    ends = int(time.time()) + 60
    token = issuer.token(exp=ends)
    await identity.verify(token)

    monkeypatch.setattr(identity_module.time, "time", lambda: ends + 9.9)
    assert identity.authenticate(token) is not None
    monkeypatch.setattr(identity_module.time, "time", lambda: ends + 10.0)
    assert identity.authenticate(token) is None


def forged(header: dict[str, Any], claims: dict[str, Any], secret: bytes | None) -> str:
    """A token that an attacker makes without the issuer's private key; PyJWT would refuse to make these."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signed = b".".join(parts)
    signature = b"" if secret is None else hmac.new(secret, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 5, ["RS256"]])
async def test_unsigned_tokens_are_refused(issuer: Issuer, make: Callable[..., Identity], algorithm: Any) -> None:
    token = forged({"alg": algorithm, "kid": "one"}, issuer.claims(), None)

    assert await rejection(make(), token) == ("invalid_token", 401)


async def test_the_public_key_is_no_secret_to_sign_with(issuer: Issuer, make: Callable[..., Identity]) -> None:
    """RFC 8725, section 2.1: a verifier that takes the algorithm from the token checks HMAC with a public key."""
    identity = make()
    for secret in (issuer.public_pem("one"), issuer.published[0]["n"].encode()):
        token = forged({"alg": "HS256", "kid": "one"}, issuer.claims(), secret)
        assert await rejection(identity, token) == ("invalid_token", 401)


async def test_a_symmetric_key_among_the_published_is_ignored(issuer: Issuer, make: Callable[..., Identity]) -> None:
    secret = b"published by mistake, 32 bytes.."
    issuer.published.append(
        {"kty": "oct", "kid": "sym", "k": base64.urlsafe_b64encode(secret).decode(), "alg": "HS256"}
    )

    for algorithm in ("HS256", "RS256"):
        token = forged({"alg": algorithm, "kid": "sym"}, issuer.claims(), secret)
        assert await rejection(make(), token) == ("invalid_token", 401)


async def test_an_algorithm_that_is_not_accepted_is_refused(issuer: Issuer, make: Callable[..., Identity]) -> None:
    issuer.add_key("two", "ES256")

    assert await rejection(make(algorithms=["RS256"]), issuer.token("two")) == ("invalid_token", 401)


async def test_a_key_is_used_for_its_own_algorithm_only(issuer: Issuer, make: Callable[..., Identity]) -> None:
    identity = make()
    private, _ = issuer._private["one"]
    issuer._private["one"] = (private, "PS256")  # the same key, published for RS256

    assert await rejection(identity, issuer.token()) == ("invalid_token", 401)


async def test_keys_that_a_token_brings_along_are_not_looked_at(issuer: Issuer, make: Callable[..., Identity]) -> None:
    attacker = Issuer()
    attacker.add_key("one")
    token = attacker.token(
        headers={"jwk": attacker.published[0], "jku": attacker.url + "/jwks", "x5u": attacker.url}, iss=issuer.url
    )

    assert await rejection(make(), token) == ("invalid_token", 401)
    assert attacker.requests == []
    attacker.close()


@pytest.mark.parametrize("change", ["claims", "signature", "cut", "noise", "long", "header"])
async def test_a_changed_token_is_refused(issuer: Issuer, make: Callable[..., Identity], change: str) -> None:
    header, claims, signature = issuer.token().split(".")
    other = issuer.token(tenant="other").split(".")[1]
    changed = {
        "claims": f"{header}.{other}.{signature}",
        "signature": f"{header}.{claims}.{signature[:-8]}AAAAAAAA",
        "cut": f"{header}.{claims}.",
        "noise": "ey.é\udcff.x",
        "long": f"{header}.{claims * 200}.{signature}",
        "header": f"{'A' * 20}.{claims}.{signature}",
    }[change]

    assert await rejection(make(), changed) == ("invalid_token", 401)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CLAIMS = st.dictionaries(
    st.sampled_from(["exp", "nbf", "iat", "iss", "aud", "sub", "jti", "tenant", "scope"]), JSON_VALUES, max_size=4
)


@pytest.fixture
def verify(issuer: Issuer, tmp_path: Path) -> Iterator[Callable[[str], VerifiedToken]]:
    """Checks a token against the issuer's keys."""
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": issuer.published}))
    verifier = TokenVerifier(
        JwtSettings(issuer=issuer.url, audience=["signet"], jwks=str(file), grants={"user": TokenGrant()})
    )
    with asyncio.Runner() as runner:
        yield lambda token: runner.run(verifier.verify(token))


def test_whatever_the_issuer_signs_is_let_in_or_refused(issuer: Issuer, verify: Callable[[str], VerifiedToken]) -> None:
    """PyJWT would not sign most of these: an issuer in another language might."""
    private, _ = issuer._private["one"]
    outcomes: Counter[str] = Counter()

    @settings(max_examples=200, deadline=None)
    @given(claims=CLAIMS)
    def check(claims: dict[str, Any]) -> None:
        signed = json.dumps({**issuer.claims(scope="user"), **claims}).encode()
        try:
            token = verify(jwt.PyJWS().encode(signed, private, "RS256", headers={"kid": "one"}))
        except Rejected as refused:
            outcomes[refused.code] += 1
        else:
            outcomes["let in"] += 1
            assert token.tenant
            assert token.expires_at > time.time()

    check()
    assert set(outcomes) <= {"let in", "invalid_token", "token_expired", "token_not_allowed"}
    assert outcomes["let in"]
    assert outcomes["invalid_token"]


def test_whatever_a_stranger_sends_is_refused(verify: Callable[[str], VerifiedToken]) -> None:
    parts = st.binary(max_size=40) | JSON_VALUES.map(lambda value: json.dumps(value).encode())

    @settings(max_examples=300, deadline=None)
    @given(parts=st.lists(parts, min_size=3, max_size=3))
    def check(parts: list[bytes]) -> None:
        for token in (
            ".".join(base64.urlsafe_b64encode(part).decode() for part in parts),
            ".".join(part.decode("latin-1").replace(".", "") for part in parts),
        ):
            with pytest.raises(Rejected, match="not valid"):
                verify(token)

    check()


async def test_a_new_key_of_the_issuer_is_found_at_once_and_unknown_ones_are_not_looked_for_each_time(
    issuer: Issuer, make: Callable[..., Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = make()
    await identity.verify(issuer.token())
    monkeypatch.setattr(jwks, "REFETCH_COOLDOWN_S", 0.0)
    issuer.published.clear()
    issuer.add_key("two")

    assert (await identity.verify(issuer.token("two"))).tenant == "acme"
    assert await rejection(identity, issuer.token("one", jti="x")) == ("invalid_token", 401), "withdrawn"

    monkeypatch.setattr(jwks, "REFETCH_COOLDOWN_S", 60.0)
    issuer.add_key("secret", publish=False)
    issuer.requests.clear()
    for number in range(20):
        await rejection(identity, issuer.token("secret", jti=str(number)))
    assert issuer.requests == []


async def test_while_the_issuer_fails_its_keys_stay(
    issuer: Issuer, make: Callable[..., Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "REFETCH_COOLDOWN_S", 0.0)
    identity = make()
    await identity.verify(issuer.token())

    issuer.failing = True
    issuer.add_key("two")
    assert await rejection(identity, issuer.token("two")) == ("invalid_token", 401)
    issuer.failing = False
    issuer.published = [{"kty": "oct"}]
    assert await rejection(identity, issuer.token("two")) == ("invalid_token", 401)

    assert (await identity.verify(issuer.token(jti="2"))).tenant == "acme"


async def test_while_the_issuer_was_never_seen_nothing_can_be_told(
    issuer: Issuer, make: Callable[..., Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.failing = True
    identity = make()
    assert await rejection(identity, issuer.token()) == ("identity_unavailable", 503)

    monkeypatch.setattr(jwks, "REFETCH_COOLDOWN_S", 0.0)
    issuer.failing = False
    assert (await identity.verify(issuer.token())).tenant == "acme"


async def test_keys_are_followed_beside_the_requests(issuer: Issuer, make: Callable[..., Identity]) -> None:
    identity = make(refresh_interval_s=0.02)
    identity.start()
    assert wait_for(lambda: "/jwks" in issuer.requests)
    issuer.add_key("two")
    issuer.requests.clear()
    assert wait_for(lambda: issuer.requests.count("/jwks") >= 2)
    issuer.failing = True  # what is verified now was known before

    assert (await identity.verify(issuer.token("two"))).tenant == "acme"


async def test_discovery_must_name_the_issuer_itself(
    issuer: Issuer, make: Callable[..., Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "REFETCH_COOLDOWN_S", 0.0)
    identity = make()
    good = issuer.discovery
    for bad in (
        {**good, "issuer": "https://evil.example"},
        {**good, "jwks_uri": "file:///etc/passwd"},
        {**good, "jwks_uri": "http://evil.example/jwks"},
        {"issuer": issuer.url},
    ):
        issuer.discovery = bad
        assert await rejection(identity, issuer.token()) == ("identity_unavailable", 503)
    issuer.discovery = good
    assert (await identity.verify(issuer.token())).tenant == "acme"


async def test_a_redirect_is_not_followed(issuer: Issuer, make: Callable[..., Identity]) -> None:
    assert await rejection(make(jwks=issuer.url + "/moved"), issuer.token()) == ("identity_unavailable", 503)
    assert issuer.requests == ["/moved"]


async def test_a_private_authority_is_trusted_where_it_is_named(make: Callable[..., Identity], tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "issuer.pem")
    private = Issuer(certificate)
    private.add_key("one")
    try:
        assert await rejection(make(issuer=private.url), private.token()) == ("identity_unavailable", 503)
        assert (await make(issuer=private.url, ca_file=certificate).verify(private.token())).tenant == "acme"
    finally:
        private.close()


@pytest.mark.parametrize("content", [None, b"nothing"])
def test_certificates_that_cannot_be_read_are_told_at_the_start(
    make: Callable[..., Identity], tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ValueError, match="cannot read the certificates in"):
        make(ca_file=file)


async def test_keys_may_be_in_a_file(issuer: Issuer, make: Callable[..., Identity], tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": issuer.published}))

    assert (await make(jwks=str(file)).verify(issuer.token())).tenant == "acme"
    assert issuer.requests == []


async def test_the_only_key_serves_tokens_without_key_id(issuer: Issuer, make: Callable[..., Identity]) -> None:
    identity = make()
    assert (await identity.verify(issuer.token(headers={"kid": None}))).tenant == "acme"

    issuer.add_key("two")
    assert await rejection(make(), issuer.token(headers={"kid": None})) == ("invalid_token", 401)


async def test_tenants_are_mapped_made_or_refused(issuer: Issuer, make: Callable[..., Identity]) -> None:
    strict = make()
    assert await rejection(strict, issuer.token(tenant="new")) == ("token_not_allowed", 403)
    assert await rejection(strict, issuer.token(tenant="No Name")) == ("token_not_allowed", 403)
    assert await rejection(strict, issuer.token(tenant=None)) == ("token_not_allowed", 403)

    mapped = make(tenant_claim="org.id", tenants={"42": "acme"})
    assert (await mapped.verify(issuer.token(org={"id": "42"}))).tenant == "acme"
    assert await rejection(mapped, issuer.token(org={"id": "acme"})) == ("token_not_allowed", 403)

    named_by_url = make(tenant_claim="https://example.com/tenant")
    assert (await named_by_url.verify(issuer.token(**{"https://example.com/tenant": "acme"}))).tenant == "acme"

    making = make(create_tenants=True)
    assert (await making.verify(issuer.token(tenant="new"))).tenant == "new"
    assert making.tenants() == ["acme", "new"]


async def test_a_tenant_made_elsewhere_is_seen_at_once(issuer: Issuer, make: Callable[..., Identity]) -> None:
    gateway, elsewhere = make(), make()
    elsewhere.create_tenant("new")

    assert (await gateway.verify(issuer.token(tenant="new"))).tenant == "new"


async def test_grants_add_up_and_none_is_refused(issuer: Issuer, make: Callable[..., Identity]) -> None:
    identity = make(
        grants_claim="realm_access.roles",
        grants={
            "chat": {"models": ["chat-*"], "endpoints": ["chat"]},
            "embed": {"models": ["e5"], "endpoints": ["embeddings"]},
            "ops": {"admin": True},
        },
    )

    both = await identity.verify(issuer.token(realm_access={"roles": ["chat", "embed", "else", 5]}))
    assert (both.admin, both.models, both.endpoints) == (False, {"chat-*", "e5"}, {"chat", "embeddings"})
    ops = await identity.verify(issuer.token(realm_access={"roles": ["chat", "ops"]}))
    assert (ops.admin, ops.models, ops.endpoints) == (True, None, None)
    for held in ({"roles": ["else"]}, {"roles": "chatops"}, {}, "chat", None):
        assert await rejection(identity, issuer.token(realm_access=held)) == ("token_not_allowed", 403)

    words = make(grants={"llm:chat": {"endpoints": ["chat"]}})
    assert (await words.verify(issuer.token(scope="openid llm:chat"))).endpoints == {"chat"}


async def test_a_suspended_tenant_ends_its_tokens_too(issuer: Issuer, make: Callable[..., Identity]) -> None:
    identity = make()
    token = issuer.token()
    await identity.verify(token)

    identity.update_tenant("acme", suspended=True)

    assert await rejection(identity, token) == ("tenant_suspended", 403)


async def test_settings_are_taken_on_while_running(issuer: Issuer, make: Callable[..., Identity]) -> None:
    identity = make()
    identity.start()
    token = issuer.token()
    await identity.verify(token)
    good = JwtSettings(issuer=issuer.url, audience=["other"])

    with pytest.raises(ValueError, match="cannot read the token issuer's keys in /nowhere"):
        identity.apply(IdentitySettings(jwt=good.model_copy(update={"jwks": "/nowhere"})))
    assert identity.authenticate(token) is not None

    identity.apply(IdentitySettings(jwt=good))
    assert await rejection(identity, token) == ("invalid_token", 401)
    assert (await identity.verify(issuer.token(aud="other"))).tenant == "acme"

    identity.apply(IdentitySettings())
    assert await rejection(identity, token) == ("invalid_api_key", 401)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"issuer": "https://i"}, "audience must name at least one"),
        ({"issuer": "http://i.example", "audience": ["a"]}, "fetched by https only"),
        ({"issuer": "i", "audience": ["a"], "jwks": "http://i.example/jwks"}, "fetched by https only"),
        ({"issuer": "https://i", "audience": ["a"], "algorithms": ["HS256"]}, "algorithms"),
        ({"issuer": "https://i", "audience": ["a"], "algorithms": ["none"]}, "algorithms"),
        ({"issuer": "https://i", "audience": ["a"], "algorithms": []}, "algorithms"),
    ],
)
def test_settings_that_would_be_unsafe_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        JwtSettings(**settings)


def test_grants_are_checked_when_the_gateway_starts(make: Callable[..., Identity]) -> None:
    with pytest.raises(ValueError, match="'chats' is no endpoint"):
        make(grants={"x": {"endpoints": ["chats"]}})


async def test_what_is_remembered_is_bounded(
    issuer: Issuer, make: Callable[..., Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_module, "MAX_TOKENS", 3)
    identity = make()
    tokens = [issuer.token(jti=str(number)) for number in range(5)]
    for token in tokens:
        await identity.verify(token)

    assert [identity.authenticate(token) is not None for token in tokens] == [False, False, True, True, True]


def wait_for(condition: Callable[[], bool], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False
