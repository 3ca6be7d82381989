"""Labelled texts for the three heads, from our own grammar and the open data that is at hand."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from serving.guard.classifiers.attacks import CHUNK_CHARS, MAX_WINDOWS, WINDOW_CHARS, strange_windows
from serving.guard.classifiers.windows import chunks, windows
from serving.guard.classifiers.word_vectors import WordVectors
from training.guard.classifiers.grammar import disguise, plant, write
from training.guard.classifiers.sources import SOURCES, Label, Source

Item = TypeVar("Item")
Text = tuple[str, str]
"""(where it is from, the text)"""

_CALIBRATED = 4
"""Of open data every fourth text calibrates; whole sources named below only calibrate."""
_ONLY_CALIBRATES = frozenset(
    {"truthfulqa", "legalbench cuad", "mmlu, computer security", "mmlu, international law", "mmlu, medicine"}
)
OWN = "own grammar"
"""One source, whatever list a text is of: a list written to be hard is no population that has a rate of its own."""


@dataclass(slots=True)
class Head:
    """What one category is trained and calibrated on. Texts for calibration are whole, those to train on in pieces."""

    attacks: list[Text] = field(default_factory=list)
    harmless: list[Text] = field(default_factory=list)
    calibration_attacks: list[Text] = field(default_factory=list)
    calibration_harmless: list[Text] = field(default_factory=list)


@dataclass(slots=True)
class OpenData:
    """The open data of one folder by label, split into what trains and what calibrates."""

    train: dict[Label, list[Text]] = field(default_factory=dict)
    calibrate: dict[Label, list[Text]] = field(default_factory=dict)
    used: list[tuple[Source, Path, int]] = field(default_factory=list)
    """For the data card: what was read, from where, how many texts."""
    missing: list[Source] = field(default_factory=list)


def read_open_data(folder: Path | None) -> OpenData:
    """What of `SOURCES` lies in the folder, and what does not; nothing without one."""
    data = OpenData()
    for source in SOURCES if folder is not None else ():
        assert folder is not None
        file = folder / source.file
        if not file.is_file():
            data.missing.append(source)
            continue
        count = 0
        for label, text in source.read(file):
            calibrates = source.name in _ONLY_CALIBRATES or _position(text) % _CALIBRATED == 0
            side = data.calibrate if calibrates else data.train
            side.setdefault(label, []).append((source.name, text))
            count += 1
        data.used.append((source, file, count))
    return data


def _position(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


_LOOKALIKES = (
    *(("harmless", 0.7), ("about_harm", 0.2), ("homonym", 0.05), ("tale", 0.3), ("mail", 0.05), ("page", 0.05)),
    *(("harmless_more", 1.2), ("lookup", 0.3)),
    *(("order_task", 0.05), ("order_ask", 0.05)),
)


def jailbreak_head(data: OpenData, size: int, chance: random.Random) -> Head:
    """Jailbreaks and extraction of instructions, against what looks like them."""
    head = _head((("jailbreak", 0.45), ("extract", 0.12)), data, size, chance)
    wild = [(name, piece) for name, text in data.train.get("jailbreak", ()) for piece in chunks(text, CHUNK_CHARS)[:3]]
    head.attacks += 2 * wild
    head.calibration_attacks += data.calibrate.get("jailbreak", [])
    return head


def illicit_head(data: OpenData, size: int, chance: random.Random) -> Head:
    """Harmful aims, plain and in stories, against harmless ones in the same words and the same stories."""
    head = _head((("harm_ask", 0.6), ("harm_more", 1.6), ("pair", 0.4)), data, size, chance)
    head.attacks += data.train.get("illicit", [])
    head.calibration_attacks += data.calibrate.get("illicit", [])
    # Scored by windows of sentences: in a harmless text each of them is harmless.
    head.harmless += [
        (name, window) for name, text in _some(head.harmless, size, chance) for window in _few(text, chance)
    ]
    return head


def _few(text: str, chance: random.Random) -> list[str]:
    return _some(windows(text, WINDOW_CHARS, MAX_WINDOWS), 3, chance)


def _head(attacks: Sequence[tuple[str, float]], data: OpenData, size: int, chance: random.Random) -> Head:
    head = Head()
    for whole, bad, good in (
        (False, head.attacks, head.harmless),
        (True, head.calibration_attacks, head.calibration_harmless),
    ):
        scale = size if not whole else size // 4
        bad += _own(attacks, scale, chance, whole)
        good += _own(_LOOKALIKES, scale, chance, whole)
    head.attacks += [(name, disguise(text, chance)) for name, text in head.attacks if chance.random() < 0.15]
    head.harmless += [(name, disguise(text, chance)) for name, text in head.harmless if chance.random() < 0.15]
    for label in ("plain", "question", "data"):
        head.harmless += [(name, text[:CHUNK_CHARS]) for name, text in _some(data.train.get(label, ()), size, chance)]
        head.calibration_harmless += _some(data.calibrate.get(label, ()), size // 2, chance)
    # Few, and in form the nearest to a jailbreak.
    head.harmless += 4 * [(name, text[:CHUNK_CHARS]) for name, text in data.train.get("task", ())]
    head.calibration_harmless += data.calibrate.get("task", [])
    return head


Window = tuple[str, str, tuple[float, ...]]
"""(where it is from, the window, the features that its surroundings show)"""


@dataclass(slots=True)
class WindowHead:
    """The same for windows of data."""

    attacks: list[Window] = field(default_factory=list)
    harmless: list[Window] = field(default_factory=list)
    calibration_attacks: list[Text] = field(default_factory=list)
    calibration_harmless: list[Text] = field(default_factory=list)


def indirect_head(data: OpenData, word_vectors: WordVectors, size: int, chance: random.Random) -> WindowHead:
    """Documents with and without an order to an assistant."""
    head = WindowHead()
    for whole in (False, True):
        count = size if not whole else size // 4
        documents = [
            *_own((("mail", 0.5), ("page", 0.4), ("table", 0.1)), count, chance, whole),
            *_some((data.calibrate if whole else data.train).get("data", ()), count // 2, chance),
        ]
        orders = [text for _, text in _own((("order", 1.0),), count, chance, whole)]
        planted = [(name, plant(chance.choice(orders), text, chance), text) for name, text in documents]
        if whole:
            head.calibration_harmless += documents
            head.calibration_attacks += [(name, text) for name, text, _ in planted]
            continue
        for name, text in documents:
            head.harmless += [(name, window, shown) for window, shown in strange_windows(word_vectors, text)]
        for name, text, clean in planted:
            for window, shown in strange_windows(word_vectors, text):
                if _is_new(window, clean):
                    head.attacks.append((name, window, shown))
        head.harmless = _some(head.harmless, 8 * size, chance)
        # An order that is all of a tool's result.
        head.attacks += [(OWN, text, strange_windows(word_vectors, text)[0][1]) for text in orders]
    return head


def _is_new(window: str, clean: str) -> bool:
    """Whether most of the window's words in a row were not in the document before."""
    words = window.split()
    runs = [" ".join(words[place : place + 3]) for place in range(max(len(words) - 2, 1))]
    clean = " ".join(clean.split())
    return sum(run not in clean for run in runs) > 0.4 * len(runs)


def toxic_head(data: OpenData, label: Callable[[Label], bool], size: int, chance: random.Random) -> Head:
    """Tweets that are, against those that are not and harmless text of other kinds."""
    head = Head()
    for side, bad, good in (
        (data.train, head.attacks, head.harmless),
        (data.calibrate, head.calibration_attacks, head.calibration_harmless),
    ):
        for kind in ("hate", "toxic", "plain"):
            texts = _some(side.get(kind, ()), 3 * size, chance)
            if label(kind):
                bad += texts
            elif kind == "plain" or side is data.train:
                # A rude tweet is not hateful, but no harmless text either: it sets no threshold.
                good += texts
        good += [(name, text[:300]) for name, text in _some(side.get("data", ()), size // 4, chance)]
        good += _own((("harmless", 0.3), ("mail", 0.1), ("page", 0.1)), size, chance, side is data.calibrate)
    return head


def _own(parts: Iterable[tuple[str, float]], size: int, chance: random.Random, whole: bool) -> list[Text]:
    return [(OWN, text) for start, part in parts for text in write(start, int(size * part), chance, whole)]


def _some(texts: Sequence[Item], most: int, chance: random.Random) -> list[Item]:
    return list(texts) if len(texts) <= most else chance.sample(texts, most)
