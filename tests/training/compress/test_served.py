"""A small server in the engine's place: how it is started, asked, measured and stopped."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

import pytest

from training.compress import served
from training.compress.errors import EngineFailed
from training.data import IGNORED, Example

# Answers like the engine, after what `signet engine` would take as arguments; says on the disk which process it is.
STAND_IN = """\
import http.server, json, os, pathlib, sys
pathlib.Path(os.environ["SIGNET_HOME"], "pid").write_text(str(os.getpid()))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert asked["model"] == "tiny"
        if "prompt_logprobs" in asked:
            scores = [None, *({str(token): {"logprob": -token / 10}} for token in asked["prompt"][1:])]
            self.answer({"choices": [{"prompt_logprobs": scores}]})
        else:
            assert asked["ignore_eos"]
            self.answer({"usage": {"completion_tokens": asked["max_tokens"]}})
    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "engine.py"
    program.write_text(STAND_IN)
    monkeypatch.setattr(served, "ENGINE", (sys.executable, str(program)))
    monkeypatch.setattr(served, "_POLL_SECONDS", 0.02)
    return program


def test_the_engine_answers_and_is_stopped(stand_in: Path, tmp_path: Path) -> None:
    texts = [Example([7, 1, 2, 3], [IGNORED, IGNORED, 2, 3], ""), Example([7, 4], [7, 4], "")]

    found = served.serve("tiny@3", {"texts": texts}, tmp_path, tmp_path / "logs" / "engine.log")

    assert 0 < found.slowest <= found.tokens_per_s <= found.fastest
    # The first token has nothing before it, and what bears no label is not scored.
    assert found.perplexity == {"texts": pytest.approx(math.exp((0.2 + 0.3 + 0.4) / 3))}
    pid = int((tmp_path / "pid").read_text())
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.02)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_engine_that_does_not_start_is_told_by_its_last_line(stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_text("import sys; print('loading'); sys.exit('Error: tiny@3 needs a CPU with AVX-512')")

    with pytest.raises(EngineFailed, match="does not serve tiny@3: Error: tiny@3 needs a CPU with AVX-512"):
        served.serve("tiny@3", {}, tmp_path, tmp_path / "engine.log")


def test_an_engine_that_answers_with_something_else_is_told(stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_text(STAND_IN.replace('"completion_tokens"', '"other"'))

    with pytest.raises(EngineFailed, match="did not answer"):
        served.serve("tiny@3", {}, tmp_path, tmp_path / "engine.log")


def test_whether_there_is_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    assert not served.engine_is_installed()
