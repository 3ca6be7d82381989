"""Engines that come, go, fall ill and recover, while the pool runs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.engines.address import Address
from serving.gateway.engines.build import connections_from
from serving.gateway.engines.engine import Engine
from serving.gateway.engines.load import EngineLoad, parse_load
from tests.serving.gateway.engines.pools import eventually, pool_settings, running_pool
from tests.support.running import free_port
from tests.support.scripted import ScriptedEngine

REPOSITORY = Path(__file__).parents[4]


@pytest.fixture
def two() -> Iterator[tuple[ScriptedEngine, ScriptedEngine]]:
    engines = ScriptedEngine(), ScriptedEngine()
    yield engines
    for engine in engines:
        engine.stop()


async def test_engines_are_known_when_the_pool_has_started(two: tuple[ScriptedEngine, ScriptedEngine]) -> None:
    async with running_pool(pool_settings(two[0].url, f"{two[1].url}/v1/")) as (pool, log):
        assert [engine.url for engine in pool.engines] == [two[0].url, two[1].url]
        assert pool.ready
        assert set(pool.model_cards()) == {"scripted"}
        assert set(log.engines.values()) == {(True, False, "closed")}


async def test_an_engine_taken_out_finishes_its_answers_and_is_then_forgotten(
    two: tuple[ScriptedEngine, ScriptedEngine],
) -> None:
    async with running_pool(pool_settings(two[0].url, two[1].url)) as (pool, log):
        leaving, staying = pool.engines
        told: list[tuple[str, bool]] = []
        pool.on_change.append(lambda engine: told.append((engine.name, engine.draining)))
        release = leaving.occupy()

        pool.apply(pool_settings(two[1].url))

        assert pool.engines == [staying]
        assert leaving.draining
        assert told == [(leaving.name, True)]
        assert leaving.name in log.engines
        response = await leaving.client.request(b"GET", b"/health")
        await response.read()
        response.close()
        release()
        assert leaving.name not in log.engines
        assert log.engines[staying.name] == (True, False, "closed")


async def test_an_engine_that_returns_while_it_finishes_is_the_same_one(
    two: tuple[ScriptedEngine, ScriptedEngine],
) -> None:
    async with running_pool(pool_settings(two[0].url, two[1].url)) as (pool, log):
        engine = pool.engines[0]
        release = engine.occupy()
        pool.apply(pool_settings(two[1].url))
        pool.apply(pool_settings(two[0].url, two[1].url))

        assert engine in pool.engines
        assert not engine.draining
        release()
        assert log.engines[engine.name] == (True, False, "closed")


async def test_new_credentials_renew_the_engines(two: tuple[ScriptedEngine, ScriptedEngine]) -> None:
    async with running_pool(pool_settings(two[0].url)) as (pool, log):
        before = pool.engines[0]
        pool.apply(pool_settings(two[0].url, engine_api_key="new"))
        after = pool.engines[0]
        assert after is not before
        assert after.headers == ((b"authorization", b"Bearer new"),)
        await eventually(lambda: after.up, "the renewed engine is up")
        assert log.engines == {after.name: (True, False, "closed")}


async def test_settings_that_cannot_be_used_change_nothing(two: tuple[ScriptedEngine, ScriptedEngine]) -> None:
    async with running_pool(pool_settings(two[0].url)) as (pool, _):
        before = list(pool.engines)
        with pytest.raises(ValueError, match="not of the form"):
            pool.apply(pool_settings("not a url"))
        with pytest.raises(ValueError, match="cannot read"):
            pool.apply(pool_settings(two[1].url, engine_tls={"ca": "/nowhere.pem"}))
        assert pool.engines == before


async def test_an_administrator_can_drain_and_discovery_does_not_undo_it(
    two: tuple[ScriptedEngine, ScriptedEngine],
) -> None:
    async with running_pool(pool_settings(two[0].url)) as (pool, log):
        engine = pool.engines[0]
        engine.drain("admin")
        pool.apply(pool_settings(two[0].url, two[1].url))
        assert engine.draining
        assert log.engines[engine.name] == (True, True, "closed")
        engine.drain("admin", False)
        assert not engine.draining


async def test_capacity_is_told_when_a_slot_is_freed_and_when_an_engine_comes_up(
    two: tuple[ScriptedEngine, ScriptedEngine],
) -> None:
    async with running_pool(pool_settings(two[0].url)) as (pool, _):
        calls: list[None] = []
        pool.on_capacity.append(lambda: calls.append(None))
        release = pool.engines[0].occupy()
        assert not calls
        release()
        assert len(calls) == 1
        pool.apply(pool_settings(two[0].url, two[1].url))
        await eventually(lambda: len(pool.engines) == 2 and pool.engines[1].up, "the second is up")
        assert len(calls) > 1


async def test_failing_traffic_has_the_engine_probed_at_once() -> None:
    scripted = ScriptedEngine()
    async with running_pool(pool_settings(scripted.url, probe_interval_s=60)) as (pool, _):
        engine = pool.engines[0]
        scripted.stop()
        engine.failed("refused")
        await eventually(lambda: not engine.up, "the engine is seen to be down")


@pytest.fixture
def engine_process() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    command = [sys.executable, "-m", "loadtests.tools.standin", "--port", str(port)]
    process = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    yield process, f"http://127.0.0.1:{port}"
    process.kill()
    process.wait(5)


async def test_a_stopped_process_is_seen_and_seen_to_return(
    engine_process: tuple[subprocess.Popen[bytes], str],
) -> None:
    process, url = engine_process
    async with running_pool(pool_settings(url)) as (pool, _):
        engine = pool.engines[0]
        await eventually(lambda: engine.up, "the engine is up", 20)
        process.send_signal(signal.SIGSTOP)
        await eventually(lambda: not engine.up, "a stopped engine is down")
        process.send_signal(signal.SIGCONT)
        await eventually(lambda: engine.up, "it is up again")


def metrics_page(running: int, waiting: int, usage: float = 0.25) -> bytes:
    return (
        b"# HELP vllm:num_requests_running Number of requests.\n# TYPE vllm:num_requests_running gauge\n"
        + b'vllm:num_requests_running{engine="0",model_name="m"} %d.0\n' % running
        + b'vllm:num_requests_waiting{engine="0",model_name="m"} %d.0\n' % waiting
        + b'vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 99.0\n'
        + b'vllm:kv_cache_usage_perc{engine="0",model_name="m"} %f\n' % usage
        + b'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="100",swap_space="4"} 1.0\n'
    )


def test_load_is_read_from_vllms_metrics() -> None:
    assert parse_load(metrics_page(3, 2)) == EngineLoad(running=3, waiting=2, kv_usage=0.25, cache_tokens=1600)
    two_cores = metrics_page(3, 2) + metrics_page(1, 0, 0.5).replace(b'engine="0"', b'engine="1"')
    assert parse_load(two_cores) == EngineLoad(running=4, waiting=2, kv_usage=0.5, cache_tokens=3200)
    assert parse_load(b"something_else 1\n") is None


async def test_load_counts_others_once_and_this_gateways_own_as_of_now(
    two: tuple[ScriptedEngine, ScriptedEngine],
) -> None:
    async with running_pool(pool_settings(two[0].url)) as (pool, _):
        engine = pool.engines[0]
        releases = [engine.occupy() for _ in range(2)]
        # Five at the engine: two are ours, so three are others'.
        two[0].fixed_paths["/metrics"] = metrics_page(4, 1)
        await eventually(lambda: engine.load == pytest.approx(5, abs=0.2), "the load is read")
        releases[0]()
        assert engine.in_flight == 1
        two[0].fixed_paths["/metrics"] = metrics_page(3, 1)
        await eventually(
            lambda: engine.load == pytest.approx(4, abs=0.2) and engine.kv_usage == 0.25, "ours counts as of now"
        )


class Nobody:
    def engine_changed(self, engine: Engine) -> None: ...
    def slot_freed(self, engine: Engine) -> None: ...


@given(st.lists(st.tuples(st.sampled_from(["occupy", "release", "succeeded", "failed"]), st.integers(0, 20))))
def test_counters_never_leak_whatever_happens_in_whatever_order(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        settings = pool_settings(circuit={"consecutive_failures": 1, "backoff_s": 1e-9, "max_backoff_s": 1e-9})
        engine = Engine(Address.from_url("http://127.0.0.1:1"), connections_from(settings), Nobody())
        releases = []
        open_answers = set()
        for step, which in steps:
            if step == "occupy":
                open_answers.add(len(releases))
                releases.append(engine.occupy())
            elif step == "release" and releases:
                # Released twice, thrice, in any order: all paths of a request may do it.
                releases[which % len(releases)]()
                open_answers.discard(which % len(releases))
            elif step in ("succeeded", "failed"):
                engine.succeeded(0.1) if step == "succeeded" else engine.failed("test")
            assert engine.in_flight == len(open_answers)
        for release in releases:
            release()
        assert engine.in_flight == 0
        assert engine.circuit.allows() or engine.circuit.state == "open"
        engine.close()

    asyncio.run(run())
