"""Patterns mean the same on every Python that Signet runs on."""

import re
from pathlib import Path

PACKAGES = ("serving", "training", "monitoring")
POSSESSIVE_GROUP = re.compile(r"(?<![\\(])\)(?:[*+?]|\{[0-9,]*\})\+")


def test_no_group_is_repeated_possessively() -> None:
    """Until 3.11.5 CPython matches such groups wrongly (gh-106052), Debian 12's among them: atomic groups are right."""
    repository = Path(__file__).parents[2]
    sources = [path for package in PACKAGES for path in (repository / package).rglob("*.py")]

    assert POSSESSIVE_GROUP.search(r"(?:a|b)*+")
    assert len(sources) > 100
    assert [str(path) for path in sources if POSSESSIVE_GROUP.search(path.read_text())] == []
