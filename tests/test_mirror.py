"""Tests stand where what they test stands: `tests/serving/x/test_y.py` is of `serving/x/y.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
# Each module of these has a test of its name. Elsewhere a test may be of a folder, or of a promise.
MIRRORED = tuple(f"serving/gateway/{room}" for room in ("admission", "answer", "endpoints", "policy", "steps"))
WITHOUT = {
    "serving/gateway/answer/failover.py": "settings and a budget: test_attempts.py, test_retries.py",
    "serving/gateway/answer/joining.py": "what it does, a continued stream shows: test_continuation.py",
    "serving/gateway/answer/pump.py": "what it does, a cut stream shows: test_stream.py, test_continuation.py",
    "serving/gateway/endpoints/endpoint.py": "the defaults of the others",
    "serving/gateway/endpoints/texts.py": "values alone",
    "serving/gateway/policy/model_judge.py": "asks a model: test_questions.py, test_real_judge.py",
    "serving/gateway/policy/review.py": "values alone, which test_steps.py reads",
    "serving/gateway/steps/receipt.py": "one promise over many modules: receipts/test_signing.py",
}
# Folders of tests without a folder of source.
OWN_FOLDERS = {
    "support": "what tests share",
    "clients": "scripts for other libraries, run by test_client_libraries.py",
    "serving/engine/plugin/on_engine": "the plugin inside the real engine",
    "serving/gateway/receipts": "receipts through the gateway",
}


def has_code(module: Path) -> bool:
    return module.name != "__init__.py" and bool(module.read_text().strip())


@pytest.mark.parametrize("room", MIRRORED)
def test_each_module_of_the_request_path_has_a_test_of_its_name(room: str) -> None:
    modules = [module for module in (REPOSITORY / room).glob("*.py") if has_code(module)]
    missing = {
        str(module.relative_to(REPOSITORY))
        for module in modules
        if not (REPOSITORY / "tests" / room / f"test_{module.name}").exists()
    }

    assert modules
    assert missing == {name for name in WITHOUT if name.rpartition("/")[0] == room}


def test_folders_of_tests_are_folders_of_source() -> None:
    tests = REPOSITORY / "tests"
    folders = {str(test.parent.relative_to(tests)) for test in tests.rglob("test_*.py")}

    strangers = {folder for folder in folders if not any((REPOSITORY / folder).glob("**/*.py"))}

    assert strangers <= OWN_FOLDERS.keys()
