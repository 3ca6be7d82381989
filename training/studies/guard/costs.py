"""What the guard's patterns cost: 8 KB of several kinds of text, and hostile texts of doubled length."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from serving.guard import Guard, GuardSettings
from serving.guard.detector import Detector
from serving.guard.detectors import default_detectors

SIZE = 8192
BAR_MS = 1.0
BAR_RATIO = 2.2
LEAST_BUSY_S = 0.0005
"""A scan that takes less for 32 KB is too short to be timed twice alike."""
NOTHING_BUT_VALUES = "a list of names, phone numbers and addresses"
"""No kind of text that a bar is set for: what each value costs."""

HOSTILE = (
    *("1", "1 ", "12 34 ", "+", "@", "a", "A", "AB", "AB12 ", "GB29", "DE89 ", "123-45-", "078-05-1120 ", "1."),
    *("::", "a:", "password:", "token=", "key key", "secret=a1", "://a:", "ssn 1", "born 1 ", "passport A-"),
    *("account 1 ", "(", "-", "eyJ", "sk-", "Ann ", "Ann-", "12 Main St, ", "x" * 19 + " ", "\n", "\\u0041", "\\n1"),
    *("Basic ", "Basic a", "auth=a", "1234567:AA", "hooks.slack.com/", "discord.com/api/", "MTk4.", "AGE-", "0a"),
    *("account of of ", "ssn no no ", "1 2 3 4 5 6 7 8 9 0 ", "4111 1111 1111 1111 ", "0123 45 67 89 ", "12.345.678/"),
)  # fmt: skip

_LOG = "2026-11-26 12:30:45.123 INFO worker-3 job=8f14e45f took 18.4 ms, 3 retries, 12,408 rows from 16 shards\n"
_ROW = "48213,Widget 8,1.25,2026-10-15,4417.50,ok,0.003,17,EUR\n"
_JSON = '{"id": 48213, "at": 1764150000123, "price": 10.50, "size": [256, 512, 1024], "key": "blue", "ok": true}\n'
_CODE = "def total(rows: list[Row], rate: float = 0.19) -> float:\n    return sum(row.price * rate for row in rows)\n\n"


def texts(prose: Path) -> dict[str, str]:
    """Texts of 8 KB: our documentation, code, data, and what holds many values."""
    pages = "".join(path.read_text() for path in sorted(prose.glob("*.md")))
    return {
        "prose with Markdown": _fill(pages),
        "code": _fill(_CODE),
        "a log": _fill(_LOG),
        "a table of numbers": _fill(_ROW),
        "JSON": _fill(_JSON),
        "base64": base64.b64encode(random.Random(1).randbytes(SIZE)).decode()[:SIZE],
        "prose with a value in each paragraph": _fill(
            "Call Ann at 555-123-4567 or mail ann@example.com. " + pages[:400]
        ),
        NOTHING_BUT_VALUES: _fill("Ann, 555-123-4567, ann@example.com\n"),
    }


def _fill(text: str) -> str:
    return (text * (SIZE // len(text) + 1))[:SIZE]


def cost_lines(prose: Path) -> list[str]:
    """The section's tables."""
    guard = Guard(GuardSettings())
    masked = GuardSettings().output.acting()
    ours = tuple(detector for detector in default_detectors() if detector.entity in masked)
    lines = [
        "Processor milliseconds of one thread for a whole text of 8 KB. Patterns: the detectors that are on by "
        "default; all: with names, addresses, IP addresses and dates; guard: all that cleans an answer, with its "
        "other stages.",
        "",
        "| 8 KB of | patterns, p50 / p99 | all, p50 | guard, p50 | |",
        "|---|---|---|---|---|",
    ]
    for name, text in texts(prose).items():
        patterns = times(scanner(ours), text, 400)
        every, whole = times(scanner(default_detectors()), text, 20), times(guard.clean_text, text, 30)
        held = "held" if patterns[1] < BAR_MS else f"**not held**: {BAR_MS:g} ms"
        cells = (f"{patterns[0]:.2f} / {patterns[1]:.2f}", f"{every[0]:.2f}", f"{whole[0]:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} | {'' if name == NOTHING_BUT_VALUES else held} |")
    worst, pattern, detector = max(_ratios())
    verdict = "held" if worst <= BAR_RATIO else "**not held**"
    return [
        *lines,
        "",
        f"Twice as much of a hostile text takes at most {worst:.2f} times as long ({detector}, {pattern!r} again and "
        f"again; 16 and 32 KB of {len(HOSTILE)} such texts, each detector alone, the shortest of twelve scans; what is "
        f"above the bar is timed three times; bar {BAR_RATIO}): {verdict}.",
    ]


def scanner(detectors: Sequence[Detector]) -> Callable[[str], object]:
    return lambda text: [detector.scan(text, 0, True) for detector in detectors]


def times(call: Callable[[str], object], text: str, rounds: int) -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds of this thread."""
    taken = []
    for number in range(rounds):
        fresh = _another(text, number)
        start = time.thread_time()
        call(fresh)
        taken.append(1000 * (time.thread_time() - start))
    taken.sort()
    return taken[len(taken) // 2], taken[int(len(taken) * 0.99)]


def _another(text: str, number: int) -> str:
    """A text like it: the detectors remember where they looked in an equal one."""
    return text[:-1] + "\n\t"[number % 2]


def _ratios() -> Iterator[tuple[float, str, str]]:
    """How many times as long twice as much takes, for each hostile text and detector that it keeps busy."""
    for pattern in HOSTILE:
        for detector in default_detectors():
            scan = scanner([detector])
            if _seconds(scan, pattern, 32 * 1024, 1) > LEAST_BUSY_S:
                ratio = _ratio(scan, pattern)
                if ratio > BAR_RATIO:  # other work on the machine may have been in the way
                    ratio = min(ratio, _ratio(scan, pattern), _ratio(scan, pattern))
                yield ratio, pattern, f"{type(detector).__name__} ({detector.entity})"


def _ratio(scan: Callable[[str], object], pattern: str) -> float:
    times = [[_seconds(scan, pattern, size, 3) for size in (16 * 1024, 32 * 1024)] for _ in range(4)]
    half, whole = (min(column) for column in zip(*times, strict=True))
    return float(whole / half)


def _seconds(scan: Callable[[str], object], pattern: str, size: int, rounds: int) -> float:
    text = (pattern * size)[:size]
    best = 10.0
    for number in range(rounds):
        fresh = _another(text, number)
        start = time.thread_time()
        scan(fresh)
        best = min(best, time.thread_time() - start)
    return best
