"""Log lines: structured, and free of secrets and of what users wrote."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitoring.telemetry import LogOutput, TelemetrySettings, configure_logging
from monitoring.telemetry.logs import FIELDS

SECRETS = [
    "sk-signet-" + "x7_-" * 10 + "abc",
    "sk-proj-0123456789abcdef",
    "Bearer abcdef123456",
    "postgresql://signet:hunter2@db/signet",
    "-----BEGIN PRIVATE KEY-----MIIabc-----END PRIVATE KEY-----",
]
PROMPT = "my neighbour Hortense Quigley has a rash"
log = logging.getLogger("tests.logs")


class Output:
    """A configured log whose lines can be read."""

    def __init__(self, settings: TelemetrySettings) -> None:
        self.stream = io.StringIO()
        self.log_output = configure_logging(settings, self.stream)

    def text(self) -> str:
        self.log_output.stop()
        return self.stream.getvalue()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture(autouse=True)
def untouched_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        if isinstance(handler, LogOutput):
            handler.stop()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def output() -> Output:
    return Output(TelemetrySettings())


def test_a_line_is_json_with_the_request_id(output: Output) -> None:
    log.warning("stream broke off", extra={"request_id": "req_1", "status": 502})

    [line] = output.lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    assert line == {
        "level": "warning",
        "logger": "tests.logs",
        "message": "stream broke off",
        "request_id": "req_1",
        "status": 502,
    }


def test_text_lines_say_the_same() -> None:
    output = Output(TelemetrySettings(log_format="text"))
    log.warning("stream broke off", extra={"request_id": "req_1"})

    assert re.fullmatch(r"\d\d:\d\d:\d\d warning stream broke off  request_id=req_1\n", output.text())


def test_the_level_is_kept() -> None:
    output = Output(TelemetrySettings(log_level="warning"))
    log.info("not this")
    log.error("this")

    assert [line["message"] for line in output.lines()] == ["this"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("level", ["info", "debug"])
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_secrets_never_appear(secret: str, level: Any, log_format: Any) -> None:
    output = Output(TelemetrySettings(log_level=level, log_format=log_format))
    log.error(f"failed with {secret}")
    log.error("failed with %s", secret)
    log.error("failed", extra={"reason": f"header {secret}"})
    try:
        raise RuntimeError(secret)
    except RuntimeError:
        log.exception("failed")

    text = output.text()
    for hidden in ("x7_-", "0123456789abcdef", "abcdef123456", "hunter2", "MIIabc"):
        assert hidden not in text
    assert text.count("[hidden]") >= 3


def test_what_users_wrote_never_appears(output: Output) -> None:
    """Fields that are not on the list, messages of exceptions and their causes, and asyncio's own reports."""
    log.info("request", extra={"body": PROMPT, "prompt": PROMPT, "messages": [PROMPT], "request_id": "req_1"})
    try:
        try:
            json.loads(f'{{"content": "{PROMPT}"')
        except ValueError as error:
            raise RuntimeError(f"could not parse {PROMPT}") from error
    except RuntimeError:
        log.exception("unexpected failure", extra={"request_id": "req_1"})

    async def forget_a_failure() -> None:
        async def fail() -> None:
            raise RuntimeError(PROMPT)

        task = asyncio.ensure_future(fail())
        await asyncio.wait([task])
        del task

    asyncio.run(forget_a_failure())

    text = output.text()
    assert "Hortense" not in text
    assert "Task exception was never retrieved" in text


def test_an_exception_is_described_by_type_and_place(output: Output) -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise RuntimeError("outer") from error
    except RuntimeError:
        log.exception("unexpected failure")

    [line] = output.lines()
    assert [entry["type"] for entry in line["error"]] == ["RuntimeError", "KeyError"]
    assert re.search(r"test_logs\.py:\d+ test_an_exception_is_described", line["error"][0]["at"][-1])
    assert "outer" not in json.dumps(line)


def test_at_debug_an_exceptions_message_is_written() -> None:
    output = Output(TelemetrySettings(log_level="debug"))
    try:
        raise RuntimeError("the reason")
    except RuntimeError:
        log.exception("unexpected failure")

    assert output.lines()[0]["error"][0]["message"] == "the reason"


def test_a_stalled_reader_of_stderr_stops_nobody() -> None:
    """A pipe that nobody reads fills up after 64 KB; a plain handler would then block its caller for ever."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        output = configure_logging(TelemetrySettings(), stream)
        started = time.monotonic()
        for _ in range(15_000):
            log.info("a line that is long enough to fill the pipe", extra={"reason": "x" * 50})
        took = time.monotonic() - started
        logging.getLogger().removeHandler(output)

        with os.fdopen(reading, "rb", buffering=0) as pipe:
            seen = b""
            while b"log lines dropped" not in seen[-4096:]:
                seen += pipe.read(65536)
        output.stop()

    assert took < 5
    assert json.loads(seen.splitlines()[-1])["count"] > 1000


def test_a_record_that_cannot_be_formatted_does_not_stop_the_log(output: Output) -> None:
    bad = logging.makeLogRecord({"msg": "%d items", "args": ("many",)})
    output.log_output.handle(bad)  # pytest's own handler would raise on it
    log.info("after it")

    messages = [line["message"] for line in output.lines()]
    assert messages == ["a log record could not be formatted", "after it"]


def test_every_field_that_the_code_logs_is_on_the_list() -> None:
    root = Path(__file__).parents[3]
    used = set()
    for package in ("serving", "training", "monitoring"):
        for path in (root / package).rglob("*.py"):
            for extra in re.findall(r"extra=\{([^}]*)\}", path.read_text()):
                used |= set(re.findall(r'"(\w+)":', extra))

    assert used <= set(FIELDS)
