"""What the guard's patterns cost: 8 KB of several kinds of text, and hostile texts of doubled length."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from serving.guard import Guard, GuardSettings
from serving.guard.detector import Detector
from serving.guard.detectors import default_detectors

SIZE = 8192
BAR_MS = 1.0
BAR_RATIO = 2.2

BEFORE = frozenset({"EMAIL_ADDRESS", "PHONE_NUMBER", "CARD_NUMBER", "API_KEY", "PRIVATE_KEY"})
"""The entities that there were before those of this page."""

HOSTILE = (
    *("1", "1 ", "12 34 ", "+", "@", "a", "A", "AB", "AB12 ", "GB29", "DE89 ", "123-45-", "078-05-1120 ", "1."),
    *("::", "a:", "password:", "token=", "key key", "secret=a1", "://a:", "ssn 1", "born 1 ", "passport A-"),
    *("account 1 ", "(", "-", "eyJ", "sk-", "Ann ", "Ann-", "12 Main St, ", "x" * 19 + " ", "\n"),
)  # fmt: skip

_LOG = "2026-11-26 12:30:45.123 INFO worker-3 job=8f14e45f took 18.4 ms, 3 retries, 12,408 rows from 16 shards\n"
_ROW = "48213,Widget 8,1.25,2026-10-15,4417.50,ok,0.003,17,EUR\n"
_CODE = "def total(rows: list[Row], rate: float = 0.19) -> float:\n    return sum(row.price * rate for row in rows)\n\n"


def texts(prose: Path) -> dict[str, str]:
    """Ordinary texts of 8 KB: our documentation, code, a log and a table of numbers."""
    pages = "".join(path.read_text() for path in sorted(prose.glob("*.md")))
    return {
        "prose with Markdown": _fill(pages),
        "code": _fill(_CODE),
        "a log": _fill(_LOG),
        "a table of numbers": _fill(_ROW),
        "prose with a value in each paragraph": _fill(
            "Call Ann at 555-123-4567 or mail ann@example.com. " + pages[:400]
        ),
    }


def _fill(text: str) -> str:
    return (text * (SIZE // len(text) + 1))[:SIZE]


def cost_lines(prose: Path) -> list[str]:
    """The section's tables."""
    guard = Guard(GuardSettings())
    masked = GuardSettings().output.acting()
    ours = tuple(detector for detector in default_detectors() if detector.entity in masked)
    before = tuple(detector for detector in ours if detector.entity in BEFORE)
    lines = [
        "Processor milliseconds of one thread for a whole text of 8 KB. Patterns: the detectors that are on by "
        "default; five entities: those that there were first; all: with names, addresses, IP addresses and dates; "
        "guard: all that cleans an answer, with its other stages.",
        "",
        "| 8 KB of | patterns, p50 / p99 | five entities, p50 | all, p50 | guard, p50 | |",
        "|---|---|---|---|---|---|",
    ]
    for name, text in texts(prose).items():
        patterns = _times(_scanner(ours), text, 150)
        five, every = _times(_scanner(before), text, 40), _times(_scanner(default_detectors()), text, 20)
        whole = _times(guard.clean_text, text, 30)
        held = "held" if patterns[1] < BAR_MS else f"**not held**: {BAR_MS:g} ms"
        cells = (f"{patterns[0]:.2f} / {patterns[1]:.2f}", *(f"{each[0]:.2f}" for each in (five, every, whole)), held)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    worst, pattern = max((_ratio(pattern), pattern) for pattern in HOSTILE)
    verdict = "held" if worst <= BAR_RATIO else "**not held**"
    lines += [
        "",
        f"Twice as much of a hostile text takes at most {worst:.2f} times as long ({pattern!r} again and again; 16 and "
        f"32 KB of {len(HOSTILE)} such texts, every detector; bar {BAR_RATIO}): {verdict}.",
    ]
    return lines


def _scanner(detectors: Sequence[Detector]) -> Callable[[str], object]:
    return lambda text: [detector.scan(text, 0, True) for detector in detectors]


def _times(call: Callable[[str], object], text: str, rounds: int) -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds of this thread."""
    taken = []
    for _ in range(rounds):
        fresh = (text + " ")[:-1]  # what was found in the same string is not looked for again
        start = time.thread_time()
        call(fresh)
        taken.append(1000 * (time.thread_time() - start))
    taken.sort()
    return taken[len(taken) // 2], taken[int(len(taken) * 0.99)]


def _ratio(pattern: str) -> float:
    scan = _scanner(default_detectors())

    def seconds(size: int) -> float:
        text = (pattern * size)[:size]
        best = 10.0
        for _ in range(3):
            start = time.thread_time()
            scan((text + " ")[:-1])
            best = min(best, time.thread_time() - start)
        return best

    return seconds(32 * 1024) / seconds(16 * 1024)
