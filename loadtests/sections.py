"""Pages of results that several campaigns share: each writes its own section."""

from __future__ import annotations

import re
from pathlib import Path


def write_section(page: Path, title: str, text: str) -> None:
    """Put `text` under the heading `## title`, instead of what stood there; the page and the section are made."""
    whole = page.read_text() if page.exists() else f"# {page.stem.capitalize()}\n"
    section = f"## {title}\n\n{text.strip()}\n"
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", whole, re.MULTILINE | re.DOTALL)
    if found is None:
        page.write_text(f"{whole.rstrip()}\n\n{section}")
    else:
        rest = whole[found.end() :]
        page.write_text(whole[: found.start()] + section + (f"\n{rest}" if rest else ""))
