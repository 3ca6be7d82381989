"""Pages of results that several commands share: the machine, tables, and a section for each command."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
GUARD_PAGE = REPOSITORY / "docs" / "benchmarks" / "guard.md"
NOTES = "<!-- notes -->"
"""What stands behind it in a section was written by hand."""


def machine() -> dict[str, str]:
    """What a reader needs to judge the figures."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": model,
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f} (1 minute, at the end)",
    }


def table_head(*columns: str) -> list[str]:
    """The first two lines of a table."""
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def write_section(page: Path, title: str, text: str) -> None:
    """Put `text` under the heading `## title`, instead of what stood there but the notes; page and section are made."""
    whole = page.read_text() if page.exists() else f"# {page.stem.capitalize()}\n"
    before = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", whole, re.MULTILINE | re.DOTALL)
    if before is not None and NOTES in before[0]:
        text = f"{text.partition(NOTES)[0].strip()}\n\n{NOTES}{before[0].partition(NOTES)[2]}"
    section = f"## {title}\n\n{text.strip()}\n"
    if before is None:
        page.write_text(f"{whole.rstrip()}\n\n{section}")
    else:
        rest = whole[before.end() :]
        page.write_text(whole[: before.start()] + section + (f"\n{rest}" if rest else ""))
