"""`signet policy` as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serving.guard.policy import reading
from serving.guard.policy.cli import policy
from serving.settings import load_settings

EXAMPLES = Path(reading.__file__).parent / "examples"
CONSTITUTION, CASES = str(EXAMPLES / "constitution.yaml"), str(EXAMPLES / "cases.yaml")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(policy, list(arguments), obj=lambda: load_settings(environment={}))


class JudgeHandler(BaseHTTPRequestHandler):
    """Says yes, as a gateway would."""

    seen: list[dict[str, Any]] = []

    def do_POST(self) -> None:
        self.seen.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        body = json.dumps({"choices": [{"message": {"content": "yes"}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def judge_url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), JudgeHandler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_check_tells_every_mistake(tmp_path: Path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 3\nprinciples:\n  - {id: a, principle: P., check: {words: [x]}, action: refuse}\n")
    found, found_json = run("check", str(bad)), run("check", str(bad), "--json")

    assert found.exit_code == found_json.exit_code == 1
    assert [line.split(": ")[0] for line in found.output.splitlines()] == [f"{bad}:1", f"{bad}:3"]
    assert json.loads(found_json.output) == {"valid": False, "mistakes": found.output.splitlines()}
    assert run("check", CONSTITUTION).output.startswith(f"{CONSTITUTION} can be used: 6 principles")
    assert json.loads(run("check", CONSTITUTION, "--json").output)["valid"] is True


@pytest.mark.parametrize(
    ("check", "said"),
    [("name: nobody, category: x", "there is no classifier 'nobody'"), ("name: attack, category: x", "tells no 'x'")],
)
def test_check_knows_the_classifiers(tmp_path: Path, check: str, said: str):
    bad = tmp_path / "bad.yaml"
    text = Path(CONSTITUTION).read_text().replace("name: attack, category: jailbreak", check)
    bad.write_text(text)
    found = run("check", str(bad))

    assert found.exit_code == 1
    assert said in found.output


def test_show_lists_the_principles():
    shown = run("show", "--policy", CONSTITUTION)

    assert "no-jailbreaks" in shown.output
    assert "output, judge: refuse (dry run)" in shown.output
    assert len(json.loads(run("show", "--policy", CONSTITUTION, "--json").output)["principles"]) == 6
    assert "no policy is set" in run("show").output


def test_the_shipped_cases_come_out_as_expected_and_judges_are_skipped():
    found = run("test", CASES, "--policy", CONSTITUTION)

    assert found.exit_code == 0, found.output
    assert "5 as expected, 0 not as expected, 1 skipped" in found.output
    assert "needs a judge: give --gateway-url and a key" in found.output


def test_a_judge_is_asked_through_a_gateway(judge_url: str):
    found = run("test", CASES, "--policy", CONSTITUTION, "--gateway-url", judge_url, "--key", "k", "--json")
    outcomes = [row["outcome"] for row in json.loads(found.output)]

    assert outcomes == ["as expected"] * 6
    assert JudgeHandler.seen[-1]["structured_outputs"] == {"choice": ["yes", "no"]}


def test_a_miss_ends_with_one(tmp_path: Path):
    cases = tmp_path / "cases.yaml"
    cases.write_text("cases: [{name: odd, input: hello, expect: {action: refuse}}]\n")
    found = run("test", str(cases), "--policy", CONSTITUTION)

    assert found.exit_code == 1
    assert "not as expected" in found.output
    cases.write_text("cases: [{name: odd, expect: {action: refuse}}]\n")
    assert "give either 'input' or 'output'" in run("test", str(cases), "--policy", CONSTITUTION).output
