"""Requests leave no reference cycles behind.

The gateway collects garbage rarely, since each collection stops every stream. What a request leaves in a cycle would
stay for hours and fill the memory.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.in_process import InProcess, running_in_process
from tests.support.scripted import CLOSE, EVENTS, HANG, ScriptedEngine, answer, chunk, stream, whole


@pytest.fixture
async def gateway(engine: ScriptedEngine, tmp_path: Path) -> AsyncIterator[InProcess]:
    async with running_in_process(engine.url, tmp_path) as running:
        yield running


LEFT = "left"
CASES: dict[str, tuple[list[object], dict[str, object] | str]] = {
    "whole": (whole(answer("hello")), {}),
    "stream": (stream(["Hel", "lo"]), {"stream": True}),
    "broken stream": ([EVENTS, chunk({"role": "assistant", "content": "Hel"}), CLOSE], {"stream": True}),
    "refused": (whole({"error": {"message": "no"}}, status=400), {}),
    "engine failed": (whole({"error": {"message": "no"}}, status=500), {}),
    "bad question": (whole(answer("hello")), {"n": 0}),
    "client left": ([EVENTS, chunk({"role": "assistant", "content": "Hello, "}), HANG], LEFT),
}


@pytest.mark.parametrize("case", CASES)
async def test_no_request_leaves_cycles(gateway: InProcess, engine: ScriptedEngine, case: str):
    script, question = CASES[case]
    engine.script = lambda _: script

    async def go() -> None:
        if isinstance(question, str):
            await gateway.leave()
        else:
            await gateway.ask(**question)

    await go()
    await asyncio.sleep(0.1)  # what closes, closes in the turns after
    gc.collect()
    gc.freeze()  # what lives by now is not what these requests leave, and looking at it takes seconds
    gc.disable()
    try:
        for _ in range(5):
            await go()
        await asyncio.sleep(0.1)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = Counter(f"{type(item).__module__}.{type(item).__name__}" for item in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    ours = {name: count for name, count in left.items() if name.startswith(("serving.", "httptools."))}
    assert not ours, left
