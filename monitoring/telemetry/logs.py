"""Logs: one JSON object a line on stderr, written by a thread of its own.

What may appear is an allow-list: the message, and the fields named here. Of exceptions only the types and places
are written, since their messages can quote input. Secrets that a message carries all the same are blanked.
"""

from __future__ import annotations

import json
import logging
import queue
import re
import sys
import threading
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

from monitoring.telemetry.settings import TelemetrySettings

# Fields that a line may carry (`log.info("…", extra={"request_id": …})`); any other is left out.
FIELDS = (
    "request_id",
    "trace_id",
    "tenant",
    "key_id",
    "endpoint",
    "model",
    "models",
    "engine",
    "source",
    "status",
    "code",
    "reason",
    "duration_s",
    "ttft_s",
    "prompt_tokens",
    "completion_tokens",
    "count",
    "pid",
    "port",
    "path",
    "checkpoint",
    "worker",
    "exit_code",
    "wait_s",
    "settings",
)

# Ours and OpenAI's keys, bearer tokens, passwords in URLs, private keys.
_SECRET = re.compile(
    r"\b[sp]k-[A-Za-z0-9_-]{12,}|(?i:\bbearer)\s+[^\s\"',]+|(?<=://)[^/@\s]+(?=@)|-----BEGIN [A-Z ]*PRIVATE KEY-----.*"
)
_MASK = "[hidden]"
# About 10 MB of records when nobody reads stderr; then lines are dropped and counted.
_MAX_WAITING = 10_000
_STOP_TIMEOUT_S = 2.0
# They log every connection or URL at INFO.
_CHATTY = ("httpx", "httpcore", "urllib3", "opentelemetry.exporter")


def configure_logging(
    settings: TelemetrySettings | None = None, stream: TextIO | None = None, in_thread: bool = True
) -> LogOutput:
    """Send everything that this process logs to `stream` (default stderr). Call once, at the edge.

    Without `in_thread` the caller itself writes: for a process that forks, and so must have one thread only.
    """
    settings = settings or TelemetrySettings()
    level = getattr(logging, settings.log_level.upper())
    with_messages = level <= logging.DEBUG
    formatter = JsonFormatter(with_messages) if settings.log_format == "json" else TextFormatter(with_messages)
    output = LogOutput(stream or sys.stderr, formatter, in_thread)
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(output)
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    return output


class LogOutput(logging.Handler):
    """Takes records without waiting; a thread formats and writes them.

    stderr may be a pipe whose reader has stalled: a write on the event loop would then stop every request.
    """

    def __init__(self, stream: TextIO, formatter: logging.Formatter, in_thread: bool = True) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._stream = stream
        self._queue: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="signet-log", daemon=True) if in_thread else None
        if self._thread is not None:
            self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._thread is None:
            self._write(record)
        elif self._queue.qsize() >= _MAX_WAITING:
            self._dropped += 1
        else:
            self._queue.put(record)

    def stop(self) -> None:
        """Write what is waiting, for two seconds at most, and take this output off the root logger."""
        logging.getLogger().removeHandler(self)
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(_STOP_TIMEOUT_S)

    def _run(self) -> None:
        while (record := self._queue.get()) is not None:
            self._write(record)
            if self._dropped and self._queue.empty():
                dropped, self._dropped = self._dropped, 0
                notice = {"levelname": "WARNING", "name": __name__, "msg": "log lines dropped", "count": dropped}
                self._write(logging.makeLogRecord(notice))

    def _write(self, record: logging.LogRecord) -> None:
        try:
            self._stream.write(self.format(record) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # stderr is closed: there is nowhere left to say so
            return
        except Exception:  # a record that cannot be formatted must not end the thread
            self._stream.write('{"level": "error", "message": "a log record could not be formatted"}\n')


class JsonFormatter(logging.Formatter):
    """A record as one JSON object."""

    def __init__(self, with_exception_messages: bool = False) -> None:
        super().__init__()
        self._with_messages = with_exception_messages

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        return json.dumps(self.fields(record), ensure_ascii=False, default=str)

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """What is written of `record`, in order."""
        # Only the first line: asyncio adds lines that show futures, and with them exceptions' messages.
        first_line, _, _ = record.getMessage().partition("\n")
        found: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _hide_secrets(first_line),
        }
        for name in FIELDS:
            value = record.__dict__.get(name)
            if value is not None:
                found[name] = _hide_secrets(value) if isinstance(value, str) else value
        if record.exc_info and record.exc_info[1] is not None:
            found["error"] = describe_exception(record.exc_info[1], self._with_messages)
        return found


class TextFormatter(JsonFormatter):
    """A record as a line for people: the same content."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        found = self.fields(record)
        head = f"{found.pop('time')[11:19]} {found.pop('level'):7} {found.pop('message')}"
        rest = " ".join(f"{name}={value}" for name, value in found.items() if name != "logger")
        return f"{head}  {rest}" if rest else head


def describe_exception(error: BaseException, with_messages: bool = False) -> list[dict[str, Any]]:
    """Types and places of an exception and its causes, the last raised first."""
    described: list[dict[str, Any]] = []
    current: BaseException | None = error
    while current is not None and len(described) < 5:
        frames = traceback.extract_tb(current.__traceback__)[-12:]
        entry: dict[str, Any] = {
            "type": type(current).__qualname__,
            "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        }
        if with_messages:
            entry["message"] = _hide_secrets(str(current))
        described.append(entry)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return described


def _hide_secrets(text: str) -> str:
    return _SECRET.sub(_MASK, text)
