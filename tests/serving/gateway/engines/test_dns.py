from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from serving.gateway.engines import pool as pool_module
from serving.gateway.engines.discovery.dns import ABSENT_LOOKS, DnsSource, system_lookup
from serving.gateway.engines.pool import EnginePool
from tests.serving.gateway.engines.pools import PoolLog, eventually, pool_settings
from tests.support.scripted import ScriptedEngine


class Names:
    """A resolver whose answers the test changes."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.problem: OSError | None = None
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        if self.problem is not None:
            raise self.problem
        return list(self.addresses)


@pytest.fixture
def scripted() -> Iterator[ScriptedEngine]:
    engine = ScriptedEngine()
    yield engine
    engine.stop()


async def test_every_address_is_an_engine_and_they_come_and_go(
    scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(scripted.url.rpartition(":")[2])
    names = Names("127.0.0.1", "::1", "127.0.0.1")
    source = DnsSource(f"http://engines.test:{port}/v1", 0.02, names)
    monkeypatch.setattr(pool_module, "sources_from", lambda _: [source])
    log = PoolLog()
    pool = EnginePool(pool_settings(), log)
    await pool.start()
    try:
        assert [engine.name for engine in pool.engines] == [f"127.0.0.1:{port}", f"[::1]:{port}"]
        assert [engine.url for engine in pool.engines] == [f"http://127.0.0.1:{port}", f"http://[::1]:{port}"]
        first = pool.engines[0]
        await eventually(lambda: first.up, "the address that answers is up")

        names.addresses.remove("::1")
        await eventually(lambda: pool.engines == [first], "an address that is gone leaves")

        names.problem = OSError("the resolver is down")
        await eventually(lambda: log.sources == {source.label: False}, "the failure is told")
        assert pool.engines == [first]

        names.problem = None
        names.addresses.append("127.0.0.2")
        await eventually(lambda: len(pool.engines) == 2 and log.sources[source.label], "a new address joins")
        assert names.asked[0] == ("engines.test", port)
    finally:
        await pool.stop()


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_NODATA])
async def test_dead_engines_of_a_name_without_addresses_go_and_living_ones_stay(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As a headless Service at no replicas has it, and as a broken name server says of names that it knows."""
    scripted = ScriptedEngine()
    port = int(scripted.url.rpartition(":")[2])
    names = Names("127.0.0.1")
    source = DnsSource(f"http://engines.test:{port}", 0.02, names)
    monkeypatch.setattr(pool_module, "sources_from", lambda _: [source])
    log = PoolLog()
    pool = EnginePool(pool_settings(), log)
    await pool.start()
    try:
        await eventually(lambda: pool.ready, "the engine is up")
        names.problem = socket.gaierror(code, "no address")
        looked = len(names.asked)
        await eventually(lambda: len(names.asked) > looked + 3 * ABSENT_LOOKS, "the name is without addresses for long")
        assert [engine.up for engine in pool.engines] == [True]

        scripted.stop()
        await eventually(lambda: pool.engines == [], "the dead engine is gone")
        assert log.sources == {source.label: True}
    finally:
        await pool.stop()


async def test_engines_stay_while_the_name_server_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names("127.0.0.1")
    source = DnsSource("http://engines.test:9", 0.01, names)
    monkeypatch.setattr(pool_module, "sources_from", lambda _: [source])
    pool = EnginePool(pool_settings(), PoolLog())
    await pool.start()
    try:
        for problem in (socket.gaierror(socket.EAI_AGAIN, "later"), OSError("the resolver is down")):
            names.problem = problem
            looked = len(names.asked)
            await eventually(lambda before=looked: len(names.asked) > before + 2 * ABSENT_LOOKS, "it was asked often")
            assert len(pool.engines) == 1
    finally:
        await pool.stop()


async def test_the_systems_resolver_finds_all_addresses() -> None:
    assert "127.0.0.1" in await system_lookup("localhost", 80)
    with pytest.raises(OSError, match=r"(?i)name|host|temporary"):
        await system_lookup("no-such-name.invalid", 80)


def test_a_source_is_the_same_one_as_long_as_its_settings_are() -> None:
    assert DnsSource("http://a:1/v1", 5) == DnsSource("http://a:1/v1", 5)
    assert DnsSource("http://a:1", 5) != DnsSource("http://a:1", 6)
    assert DnsSource("http://user:secret@a:1", 5).label == "dns:a:1"
    with pytest.raises(ValueError, match="not of the form"):
        DnsSource("engines", 5)
