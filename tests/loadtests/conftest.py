"""The stand-in engine as a real program, one for all tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from loadtests.tools.processes import running
from loadtests.tools.targets import free_port


@pytest.fixture(scope="session")
def standin_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "loadtests.tools.standin", "--port", str(port)]
    with running("standin", command, tmp_path_factory.mktemp("standin")) as program:
        program.wait_ready(f"{url}/health", {})
        yield url
