"""Who shares an engine's prefix cache with whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT
from serving.gateway.records import Question
from serving.gateway.steps.cache_salt import CacheSalts
from serving.provenance import Keyring


class Holder:
    def __init__(self, tenant: str) -> None:
        self.tenant = tenant


def salt(salts: CacheSalts, tenant: str, own: str = "") -> str:
    context = RequestContext(CHAT, {}, b"", principal=cast(Any, Holder(tenant)), question=Question(own_salt=own))
    salts.salt(context)
    return context.question.cache_salt


@pytest.fixture(params=["keyring", "no keyring"])
def keyring(request: pytest.FixtureRequest, tmp_path: Path) -> Keyring | None:
    return Keyring.open(tmp_path / "keyring.json", create=True) if request.param == "keyring" else None


def test_each_tenant_has_its_own_and_parts_it_further(keyring: Keyring | None) -> None:
    salts = CacheSalts(keyring, [])

    made = [salt(salts, "a"), salt(salts, "b"), salt(salts, "a", "x"), salt(salts, "b", "x"), salt(salts, "a", "y")]

    assert len({*made}) == 5
    assert salt(salts, "a") == made[0]


def test_no_client_can_make_anothers_salt(keyring: Keyring | None) -> None:
    salts = CacheSalts(keyring, ["shared-one"])
    target = {salt(salts, "b"), salt(salts, "b", "x"), salt(salts, "shared-one")}

    guesses = ["b", "tenant b", "\ntenant b", "x\ntenant b", "shared", "\n", salt(salts, "b")]

    assert not {salt(salts, "a", guess) for guess in guesses} & target


def test_named_tenants_share(keyring: Keyring | None) -> None:
    salts = CacheSalts(keyring, ["a", "b"])
    assert salt(salts, "a") == salt(salts, "b") != salt(salts, "c")
    salts.apply(["*"])
    assert salt(salts, "a") == salt(salts, "c")
    salts.apply([])
    assert salt(salts, "a") != salt(salts, "b")
