"""Ordinary work that every machine holds, cut into pieces: files of many kinds, logs, and generated data.

The same seed on the same files gives the same pieces.
"""

from __future__ import annotations

import os
import random
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.studies.guard.ordinary_data import GENERATED

FILES = {
    "Python": ("py", "pyi"),
    "JavaScript": ("js", "mjs", "cjs", "ts", "tsx", "jsx"),
    "HTML": ("html", "htm"),
    "CSS": ("css", "scss", "less", "sass"),
    "JSON": ("json", "ipynb"),
    "CSV": ("csv", "tsv"),
    "Markdown": ("md", "rst"),
    "C and C++": ("c", "h", "cc", "cpp", "hpp", "cu", "cuh"),
    "other languages": ("f90", "go", "java", "kt", "lua", "php", "pl", "pm", "rb", "rs", "tcl", "vim"),
    "scripts and queries": ("awk", "bash", "bat", "cmd", "m4", "mak", "mk", "pod", "ps1", "psql", "sh", "sql", "t"),
    "configuration": ("cfg", "cmake", "conf", "in", "ini", "proto", "service", "toml", "yaml", "yml"),
    "packages": ("control", "lock", "manifest", "mod", "pc", "pom", "properties", "sum", "target"),
    "templates": ("hbs", "j2", "jinja", "jinja2", "liquid", "mako", "mustache", "tf", "tmpl", "tpl"),
    "public certificates": ("crt", "pem"),
    "translated texts": ("msg", "po", "pot"),
    "XML": ("lang", "svg", "xml", "xsd", "xsl"),
    "plain text": ("dectest", "tex", "txt"),
    "system logs": ("log",),
}
"""Kinds of files, by the ends of their names."""

_MAX_FILE = 1_000_000
"""Characters that are read of a file."""
_SIZES = (300, 1000, 2500)
"""Characters of a piece; it ends with the line that passes them, or twice as far on."""
_PIECES_A_FILE = 6
_MOST_FILES = 400_000
_LOGS = Path("/var/log")


def roots() -> list[Path]:
    """The interpreter's library, installed packages, and what the system keeps for everybody."""
    paths = sysconfig.get_paths()
    installed = [Path(paths[name]) for name in ("stdlib", "purelib", "platlib")]
    system = [Path(name) for name in ("/usr/share", "/usr/include", "/usr/lib", "/etc", "/opt")]
    return [root for root in dict.fromkeys([*installed, *system, _LOGS]) if root.is_dir()]


def files_of(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Readable files of each kind under these folders, in order."""
    kinds = {end: kind for kind, ends in FILES.items() for end in ends}
    by_kind: dict[str, set[Path]] = {kind: set() for kind in FILES}
    count = 0
    for folder in folders:
        for place, inner, names in os.walk(folder):
            inner.sort()
            for name in names:
                in_logs = place.startswith(str(_LOGS)) and not name.endswith(("gz", "xz", "journal"))
                kind = "system logs" if in_logs else kinds.get(name.rpartition(".")[2].lower())
                if kind is not None:
                    by_kind[kind].add(Path(os.path.realpath(Path(place, name))))
            count += len(names)
            if count > _MOST_FILES:
                break
    return {kind: sorted(paths) for kind, paths in by_kind.items()}


def pieces_of_files(paths: Sequence[Path], count: int, rng: random.Random) -> list[str]:
    """At most `count` pieces, a few of each file, until the files are used up."""
    order = list(paths)
    rng.shuffle(order)
    pieces: list[str] = []
    for path in order:
        if len(pieces) >= count:
            break
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(_MAX_FILE)
        except (OSError, UnicodeDecodeError):
            continue
        if "\x1b" in text:
            continue  # no UTF-8, though it can be read as such
        cut = list(_cut(text, rng))
        pieces += rng.sample(cut, min(len(cut), _PIECES_A_FILE, count - len(pieces)))
    return pieces


def _cut(text: str, rng: random.Random) -> Iterator[str]:
    """The whole text in pieces of whole lines, where lines are not too long."""
    start = 0
    while start < len(text):
        size = rng.choice(_SIZES)
        line_end = text.find("\n", start + size, start + 2 * size)
        end = min(len(text), start + size) if line_end < 0 else line_end + 1
        if text[start:end].strip():
            yield text[start:end]
        start = end


def pieces(count: int, seed: int, kinds: Sequence[str] = (), folders: Sequence[Path] = ()) -> dict[str, list[str]]:
    """At most `count` pieces of each kind, or of those that are named; of files under `folders`, else the machine's."""
    made: dict[str, list[str]] = {}
    wanted = kinds or [*FILES, *GENERATED]
    files = files_of(folders or roots()) if any(kind in FILES for kind in wanted) else {}
    for kind in wanted:
        rng = random.Random(f"{seed} {kind}")
        if kind in GENERATED:
            made[kind] = [GENERATED[kind](rng) for _ in range(count)]
        elif cut := pieces_of_files(files.get(kind, ()), count, rng):
            made[kind] = cut
    return made
