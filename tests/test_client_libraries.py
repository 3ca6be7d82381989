"""What is built on OpenAI's and Anthropic's APIs, against the real engine: each library's usual calls, and its errors.

Each runs its script of tests/clients in an environment of their own (deploy/clients.py), all at once.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import DEFAULT_MODEL, REPOSITORY, Stack

pytestmark = pytest.mark.engine

SCRIPTS = REPOSITORY / "tests" / "clients"
PAGE = REPOSITORY / "docs" / "guides" / "clients.md"

# The class in which each library raises what the gateway refuses, by the name of the check.
OPENAI = {"wrong_key": "AuthenticationError", "unknown_model": "NotFoundError", "too_long": "BadRequestError"}
NO_EMBEDDINGS = {"embeddings": "NotFoundError"}
REFUSED: dict[str, dict[str, str]] = {
    "ask_langchain.py": NO_EMBEDDINGS
    | {
        "wrong_key": "OpenAIAuthenticationError",
        "wrong_key_messages": "AnthropicAuthenticationError",
        "unknown_model": "OpenAIModelNotFoundError",
        "too_long": "OpenAIContextOverflowError",
    },
    "ask_llama_index.py": OPENAI,
    "ask_instructor.py": {"wrong_key": "AuthenticationError", "too_long": "BadRequestError"},
    "ask_litellm.py": OPENAI
    | NO_EMBEDDINGS
    | {"wrong_key_messages": "AuthenticationError", "too_long": "ContextWindowExceededError"},
    "ask_openai.mjs": OPENAI | NO_EMBEDDINGS,
    "ask_anthropic.mjs": OPENAI,
    "ask_ai_sdk.mjs": {
        "wrong_key": "APICallError 401",
        "unknown_model": "APICallError 404",
        "too_long": "APICallError 400",
        "embeddings": "APICallError 404",
    },
}
SECTIONS = {
    "ask_langchain.py": "LangChain",
    "ask_llama_index.py": "LlamaIndex",
    "ask_instructor.py": "Instructor",
    "ask_litellm.py": "LiteLLM",
    "ask_openai.mjs": "OpenAI for JavaScript",
    "ask_anthropic.mjs": "Anthropic for JavaScript",
    "ask_ai_sdk.mjs": "Vercel's AI SDK",
}


@pytest.fixture(scope="module")
def environment() -> Path:
    command = [sys.executable, "deploy/clients.py"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def runs(environment: Path, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """Every library at its work: most of it is reading the library, beside which the engine answers others."""
    folder = tmp_path_factory.mktemp("clients")
    for script in SCRIPTS.glob("*.*"):
        shutil.copy(script, folder)
    (folder / "node_modules").symlink_to(environment / "node_modules")
    started = {script: Run(script, folder, environment, stack) for script in REFUSED}
    yield started
    for run in started.values():
        run.process.kill()
        run.process.wait()


class Run:
    """A library's script, running."""

    def __init__(self, script: str, folder: Path, environment: Path, stack: Stack) -> None:
        self.out, self.log = folder / f"{script}.json", folder / f"{script}.log"
        page = folder / script.replace("ask_", "page_")
        page.write_text(example(SECTIONS[script], stack))
        program, report = ("node", "report.mjs") if script.endswith(".mjs") else ("python", "report.py")
        # Relative, as JavaScript's imports are.
        command = [str(environment / "bin" / program), report, f"./{script}", f"./{page.name}", str(self.out)]
        settings = {
            "SIGNET_URL": stack.gateway_url,
            "SIGNET_KEY": stack.key,
            "SIGNET_MODEL": DEFAULT_MODEL,
            # Else it asks the network for prices.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env={**outer(), **settings}, stdout=log, stderr=subprocess.STDOUT
            )

    def seen(self) -> dict[str, Any]:
        """What each check gave, when all are done."""
        assert self.process.wait(900) == 0, self.log.read_text()[-3000:]
        return json.loads(self.out.read_text())


def outer() -> dict[str, str]:
    """This environment without what would make the clients' Python find our packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}


def example(section: str, stack: Stack) -> str:
    """The page's example, with this gateway and its key."""
    found = re.search(rf"^## {section}\n.*?^```(python|js)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found, section
    key = f"{'const ' if found[1] == 'js' else ''}KEY = {json.dumps(stack.key)}\n"
    return key + found[2].replace("http://127.0.0.1:8000", stack.gateway_url)


def is_right(check: str, seen: dict[str, Any], refused: dict[str, str]) -> bool:
    """Whether a check gave what its name says; the words of so small a model are of no interest."""
    if check in refused:
        return seen.get("error") == refused[check]
    answer = seen.get("answer")
    if "structured" in check or "forced" in check:
        return is_person(answer)
    if check in ("models", "model"):
        return answer in (DEFAULT_MODEL, [DEFAULT_MODEL])
    return bool(answer)


def is_person(answer: Any) -> bool:
    return (
        isinstance(answer, dict)
        and answer.keys() == {"name", "age"}
        and type(answer["name"]) is str
        and type(answer["age"]) is int
    )


@pytest.mark.timeout(1200)  # its setup starts seven programs and an engine; a busy machine takes its time
@pytest.mark.parametrize("script", REFUSED)
def test_library(runs: dict[str, Run], script: str) -> None:
    refused = REFUSED[script]

    seen = runs[script].seen()

    assert refused.keys() < seen.keys()
    assert {check: one for check, one in seen.items() if not is_right(check, one, refused)} == {}


def test_every_script_is_run() -> None:
    assert {script.name for script in SCRIPTS.glob("ask_*")} == REFUSED.keys()
