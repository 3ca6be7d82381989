"""Modules import in one direction: none imports itself through others, not in a function and not for types alone."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from grimp import build_graph

_ROOT = Path(__file__).parents[1]


def circles(*packages: str) -> list[str]:
    """The shortest circle through each import that is part of one, as `a -> b -> a`."""
    graph = build_graph(*packages, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    # What leads to no circle goes, from the leaves upwards.
    while leaves := {module for module, imported in imports.items() if not imported & imports.keys()}:
        imports = {module: imported for module, imported in imports.items() if module not in leaves}
    found = {
        (module, *chain)
        for module, imported in imports.items()
        for other in imported
        if other in imports and (chain := graph.find_shortest_chain(other, module))
    }
    return sorted(map(" -> ".join, found))


def test_no_module_imports_itself_through_others() -> None:
    packages = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]

    assert circles(*packages) == []


def test_only_their_own_tests_import_loadtests_beyond_the_tools() -> None:
    """And no load test imports a test."""
    tests = [file for file in (_ROOT / "tests").rglob("*.py") if not file.is_relative_to(_ROOT / "tests" / "loadtests")]
    beyond = re.compile(r"^(?:from|import) loadtests(?!\.tools\b)", re.MULTILINE)
    of_tests = re.compile(r"^\s*(?:from|import) tests\b", re.MULTILINE)

    assert [file for file in tests if beyond.search(file.read_text())] == []
    assert [file for file in (_ROOT / "loadtests").rglob("*.py") if of_tests.search(file.read_text())] == []


def test_a_circle_of_type_checking_and_late_imports_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "round_about"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from round_about import b\n"
    )
    (package / "b.py").write_text("def f():\n    import round_about.c\n")
    (package / "c.py").write_text("import round_about.a\n")
    (package / "outside.py").write_text("import round_about.a\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert circles("round_about") == [
        "round_about.a -> round_about.b -> round_about.c -> round_about.a",
        "round_about.b -> round_about.c -> round_about.a -> round_about.b",
        "round_about.c -> round_about.a -> round_about.b -> round_about.c",
    ]
