"""What vLLM's log says while it starts: how far it is, and in the end why it died.

Everything that depends on the wording of that log is here. Wording that changes costs a vaguer line, never a failure.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path

# In the order in which they appear; what is being done from that line on.
PHASES = (
    ("non-default args", "reading the configuration"),
    ("Initializing a V1 LLM engine", "starting the engine's processes"),
    ("Starting to load model", "loading weights"),
    ("Loading weights took", "making room for the key-value cache"),
    ("KV cache size", "warming up"),
    ("Dynamo bytecode transform", "compiling the model (minutes the first time, then cached)"),
    ("init engine (profile", "starting the server"),
)

# What went wrong, and what to do. The first pattern found anywhere in the log wins: causes before consequences.
# A group of the pattern fills the `{}` of the line.
REASONS = (
    (r"address already in use", "its port is taken: stop the program that has it, or set another port"),
    (
        r"(No module named '(?:vllm|torch)[^']*')",
        "vLLM is not installed here ({}): run `make serve`, which installs it",
    ),
    (
        r"No available memory for the cache|Available memory on node|can't allocate memory|std::bad_alloc|MemoryError"
        r"|Cannot allocate memory|CUDA out of memory|(?:Free|less than) .{0,80}memory utilization",
        "out of memory: close other programs, or set engine.kv_cache_gb lower",
    ),
    (
        r"To serve at least one request with the model's max seq len \((\d+)\)",
        "the key-value cache holds no request of {} tokens: raise engine.kv_cache_gb or lower engine.max_model_len",
    ),
    (
        r"Model architectures \[?'?([\w', ]+?)'?\]? (?:are not supported|failed)",
        "vLLM does not know this model's architecture ({}): serve another model",
    ),
    (
        r"model type `?'?([\w.-]+)'?`? but Transformers does not recognize",
        "this model's type ({}) is unknown: serve another model",
    ),
    (
        r"max_model_len \((\d+)\) is greater than",
        "engine.max_model_len ({}) is more than the model can: set it lower",
    ),
    (
        r"SafetensorError: (.+)|safetensors_rust.+?: (.+)",
        "the model's weights cannot be read ({}): fetch or make the model again",
    ),
    (
        r"api_server.*: error: (.+)",
        "vLLM does not accept an option ({}): check engine.arguments",
    ),
    (r"(Failed to load LogitsProcessor plugin.+)", "{}: run `make serve`, which installs Signet's plugin"),
    (
        r"(?:OSError|EnvironmentError): (.*(?:tokenizer|config\.json|model\.safetensors|weights).*)",
        "a file of the model is missing or unusable ({})",
    ),
)

# Only say that something else, further up, went wrong.
_CONSEQUENCES = ("Engine core initialization failed", "WorkerProc initialization failed", "EngineDeadError")
_ERROR_LINE = re.compile(r"(?:^|\s)((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)): (.+)$")

MAX_REASON_CHARS = 240
# Enough for the longest start-up log seen (60 kB) with several stack traces behind it.
MAX_LOG_BYTES = 512 * 1024


class StartupLog:
    """Follows one start of an engine in its log file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = self._offset = path.stat().st_size if path.exists() else 0
        self._phase = "starting vLLM"

    def phase(self) -> str:
        """What the engine is doing now, by the lines written since the last call."""
        for line in self._read(self._offset).splitlines():
            for mark, phase in PHASES:
                if mark in line:
                    self._phase = phase
        return self._phase

    def reason(self, exit_code: int) -> str:
        """Why the process ended, in words for the user."""
        return explain(self._read(self._start), exit_code)

    def _read(self, start: int) -> str:
        """The log from `start` on, at most its last MAX_LOG_BYTES."""
        with self.path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(start, end - MAX_LOG_BYTES))
            text = file.read().decode(errors="replace")
        self._offset = end
        return text


def explain(log: str, exit_code: int) -> str:
    """The cause of a failed start, from the log and the exit code (128 + signal for a killed process)."""
    for pattern, line in REASONS:
        if found := re.search(pattern, log):
            detail = next((group for group in found.groups() if group), "")
            return _one_line(line.replace("{}", detail.strip()[:160]))
    if own := re.findall(r"^Error: (.+)$", log, re.MULTILINE):
        return _one_line(own[-1])
    errors = [found for line in log.splitlines() if (found := _ERROR_LINE.search(line.rstrip()))]
    for found in errors:
        if not any(text in found[0] for text in _CONSEQUENCES):
            return _one_line(f"{found[1].rpartition('.')[2]}: {found[2]}")
    if exit_code == 128 + signal.SIGKILL:
        return "it was killed (signal 9), most likely because memory ran out: close other programs"
    if exit_code > 128:
        return f"it was ended by signal {exit_code - 128}"
    return f"it ended with exit code {exit_code} and no error in its log"


def _one_line(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= MAX_REASON_CHARS else text[: MAX_REASON_CHARS - 3] + "..."
