"""Streams that are kept open while something else is measured."""

from __future__ import annotations

import re
import sys
import urllib.request
from pathlib import Path

import pytest

from loadtests.benchmarks.gateway import set_pace
from loadtests.tools.open_streams import most_streams, open_streams, wait_idle
from loadtests.tools.processes import running
from loadtests.tools.targets import Target
from tests.support.running import free_port, wait_until


def num_running(url: str) -> int:
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as response:
        found = re.search(rb"num_requests_running\S* (\d+)", response.read())
    assert found is not None
    return int(found[1])


async def test_streams_are_open_inside_and_gone_afterwards(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "loadtests.tools.standin", "--port", str(port)]
    target = Target("standin", command, f"http://127.0.0.1:{port}")
    with running("standin", command, tmp_path) as program:
        program.wait_ready(f"{target.url}/health", {})
        set_pace(target.url, 3_600_000)
        async with open_streams(target, 250):
            assert num_running(target.url) == 250
        wait_idle(program)
        wait_until(lambda: num_running(target.url) == 0, 5, "the streams are gone", program.process)
        assert program.rss_bytes() > 1_000_000


async def test_a_refused_stream_is_said(tmp_path: Path) -> None:
    with pytest.raises((RuntimeError, OSError)):
        async with open_streams(Target("nobody", [], f"http://127.0.0.1:{free_port()}"), 1):
            pass


def test_no_more_streams_are_asked_for_than_files_allow() -> None:
    assert 100 < most_streams() <= 10_000
