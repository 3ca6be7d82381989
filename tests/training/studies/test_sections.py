"""Sections of the pages of results."""

from __future__ import annotations

from pathlib import Path

from training.studies.sections import NOTES, write_section


def test_a_section_replaces_its_older_self_and_keeps_notes_and_others(tmp_path: Path) -> None:
    page = tmp_path / "guard.md"
    page.write_text("# The guard, measured\n\n## Entities\n\nfirst\n")

    write_section(page, "Attacks", f"old\n\n{NOTES}")
    page.write_text(page.read_text().replace(NOTES, f"{NOTES}\n\nread this"))
    page.write_text(page.read_text() + "\n## Costs\n\nlast\n")
    write_section(page, "Attacks", f"new\n\n{NOTES}")

    text = page.read_text()
    assert "old" not in text
    assert [part for part in ("first", "new", "read this", "last") if part in text] == [
        "first",
        "new",
        "read this",
        "last",
    ]
    assert text.index("first") < text.index("new") < text.index("read this") < text.index("last")
