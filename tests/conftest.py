"""The real stack for integration tests: one `signet serve`, started when the first test asks for it."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx._transports.default as http_transport
import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.engine_client import ENGINE_KEY
from tests.support.prepared import PREPARED, prepare_model
from tests.support.running import free_port, running_signet
from tests.support.stack import DEFAULT_MODEL, REPOSITORY, Stack, fresh_home
from tests.support.unit import mark_unit_tests
from training.registry import Registry

SHARED_ENGINE = "engine"
# How a test file says so in its first lines.
ASKS_THE_ENGINE = "pytestmark = pytest.mark.engine\n"
STARTS_ENGINES = "pytestmark = [pytest.mark.engine, pytest.mark.slow]\n"
ENDS_THE_ENGINE = "tests/serving/engine/test_real_engine.py"
CALCULATE = ("tests/serving/guard/", "tests/serving/provenance/", "tests/training/")

# Two processes run tests: threads of PyTorch that wait for each other, spinning, would take each other's cores away.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what runs in the background deaf to SIGINT, which tests send to programs, and to themselves.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# On a busy machine an example that takes a millisecond may take a second: the time says nothing about the code.
# A change is judged on the same examples each time; `pytest --hypothesis-profile default` looks for new ones.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tests")

# A client reads all certificate authorities, for 50 ms of processor time, and tests make one for each question.
http_transport.create_ssl_context = cache(http_transport.create_ssl_context)


@cache
def _scope(file: str) -> str:
    """What one process runs whole: a file, or all files that ask the one engine."""
    return SHARED_ENGINE if ASKS_THE_ENGINE in (REPOSITORY / file).read_text() else file


class FilesWhole(LoadScopeScheduling):  # type: ignore[misc]
    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid.partition("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FilesWhole:
    return FilesWhole(config, log)


@cache
def _turn(file: str) -> int:
    """What trains and compresses comes first, engines late: on few cores whatever runs beside an engine would starve.

    The shared engine is asked by one process, those that files of their own start and stop by the other. Whichever is
    done first goes on with what only calculates, and does not mind.
    """
    if _scope(file) == SHARED_ENGINE:
        return 3 if file == ENDS_THE_ENGINE else 2
    text = (REPOSITORY / file).read_text()
    if STARTS_ENGINES in text:
        return 4
    if "pytest.mark.slow" in text:
        return 0
    return 5 if file.startswith(CALCULATE) else 1


@pytest.hookimpl(tryfirst=True)  # before pytest takes out what `-m` does not name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_unit_tests(items)
    items.sort(key=lambda item: _turn(str(item.path.relative_to(REPOSITORY))))


def pytest_collection_finish() -> None:
    """Of a million objects that stay, each look for garbage takes most of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def prepared_home() -> Path:
    """A home in which the default model is registered; read only."""
    prepare_model()
    return PREPARED


@pytest.fixture(scope="session")
def stack(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole of Signet on free ports, with the default model."""
    home = fresh_home(prepared_home, tmp_path_factory.mktemp("stack") / "home")
    gateway, engine = free_port(), free_port()
    url, engine_url = (f"http://127.0.0.1:{port}" for port in (gateway, engine))
    settings = {
        "SIGNET_ENGINE__PORT": str(engine),
        "SIGNET_DRIFT__PORT": str(free_port()),
        "SIGNET_GATEWAY__ENGINE_API_KEY": ENGINE_KEY,
    }
    # Short: the path of a socket has 107 characters at the most.
    with (
        TemporaryDirectory() as temporary,
        running_signet(
            home,
            f"{url}/readyz/engines",
            400,
            *("serve", "--port", str(gateway)),
            TMPDIR=temporary,
            **settings,
        ) as process,
    ):
        key = (home / "first_key").read_text().strip()
        yield Stack(home, url, engine_url, key, process, Path(temporary))


@pytest.fixture(scope="session")
def engine_url(stack: Stack) -> str:
    return stack.engine_url


@pytest.fixture(scope="session")
def gateway_url(stack: Stack) -> str:
    return stack.gateway_url


@pytest.fixture(scope="session")
def keyring_path(stack: Stack) -> Path:
    return stack.home / "keyring.json"


@pytest.fixture(scope="session")
def default_model_ref() -> str:
    return DEFAULT_MODEL


@pytest.fixture(scope="session")
def model_folder(prepared_home: Path) -> Path:
    """The default model's checkpoint folder."""
    return Registry(prepared_home / "registry", prepared_home / "keys").resolve(DEFAULT_MODEL).path
