"""Sentences with names and addresses put in, and where those stand: everything that the tagger learns from."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from serving.guard.ner.model import TAGS
from training.guard.ner.gazetteer import Gazetteer

NAME, ADDRESS, NONE = 0, 1, len(TAGS)
SENTENCES = Path(__file__).with_name("sentences.txt")
PROSE = Path(__file__).with_name("prose.txt")
"""Paragraphs of our documentation, in which nobody is named; a copy, since pages change and weights should not."""
WORDS = Path(__file__).with_name("words.txt")
"""Words of everyday life, medicine, law and programming that the paragraphs have not."""

_SLOT = re.compile(r"\{(\w+)\}")
_ADDRESS = re.compile(r"\{(address|street|street_no|flat|pobox|zip)\}")
_LOWERED, _RAISED, _JOINED = 0.14, 0.02, 0.25
"""Shares of texts that are written in small letters or capitals, and that are two sentences."""
_NOBODY, _WOVEN = 0.12, 0.3
"""Shares of texts that are prose as it is, and of sentences that are prose with names woven in."""

_THING = re.compile(
    r"(?<![`\w/.-])(?:(?:[Tt]he|[Aa]n?|[Ee]very|[Ii]ts|[Yy]our|[Ee]ach|[Oo]ur) [a-z]{3,}|[Ii]t|[Tt]hey|[Yy]ou|them|one)"
    r"(?![`\w'/-])"
)
"""Words in whose place a sentence may as well have somebody's name."""
_WOVEN_IN = {
    "{name}": 36, "{first}": 14, "{last}": 10, "{title} {last}": 4, "{org}": 7, "{city}": 6, "{Word}": 7,
    "the {Word}": 3, "{Words}": 3, "{weekday}": 1, "{month}": 1, "{nationality}": 2, "{street_no}": 4, "{address}": 4,
}  # fmt: skip
"""What is woven in, by weight; some that is no name, so that not everything in such a place is one."""
_EXCHANGED = 0.2
"""Share of the words of such a sentence that become others: few texts have many words."""
_PLAIN_WORD = re.compile(r"(?<![`\w{/.'-])[A-Z]?[a-z]{3,}(?![`\w}/.'(:-])")
_ENDINGS = ("s", "s", "ed", "ing", "ly", "er")
_INFLECTED = 0.25

_TITLES = (
    "Mr.",
    "Mrs.",
    "Ms.",
    "Miss",
    "Dr.",
    "Prof.",
    "Mr",
    "Mrs",
    "Ms",
    "Dr",
    "Sir",
    "Herr",
    "Frau",
    "Madame",
    "Sra.",
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DRUGS = ("Ibuprofen", "Metformin", "Lisinopril", "Aspirin", "Omeprazole", "Paracetamol")
_NATIONALITIES = (
    "American", "British", "German", "French", "Italian", "Spanish", "Dutch", "Polish", "Swedish", "Danish",
    "Chinese", "Japanese", "Indian", "Russian", "Turkish", "Greek", "Irish", "Canadian", "Brazilian", "Mexican",
    "Egyptian", "Korean",
)  # fmt: skip


def read_lines(file: Path) -> list[str]:
    """The texts of a file that has one a line, with line ends within them as `\\n`."""
    return [line.replace("\\n", "\n") for line in file.read_text().splitlines() if line]


class Piece(NamedTuple):
    """A stretch of text and what it is."""

    text: str
    tag: int


class Texts:
    """An endless supply of labelled texts; the same for the same seed, places and prose."""

    def __init__(self, gazetteer: Gazetteer, prose: Sequence[str], seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - training data, no secret
        self._places = gazetteer
        self._prose = prose
        of_prose = {word.lower() for text in prose for word in re.findall(r"[A-Za-z]{2,14}", text)}
        self._words = sorted(of_prose.union(read_lines(WORDS)))
        sentences = read_lines(SENTENCES)
        # An address has more ways to be written than a name, and fewer sentences.
        self._templates = sentences + [line for line in sentences if _ADDRESS.search(line)]
        self._plain = [line for text in prose for line in re.split(r"(?<=[.!?:;])\s+", text) if _THING.search(line)]

    def draw(self) -> list[Piece]:
        """One text: a sentence or two, in small letters or capitals now and then, or prose that names nobody."""
        draw = self._random.random
        if self._prose and draw() < _NOBODY:
            return [Piece(self._random.choice(self._prose), NONE)]
        pieces = list(self._fill(self._template()))
        if draw() < _JOINED:
            pieces += [Piece(self._random.choice((" ", "\n", ". ", "\n\n")), NONE)]
            pieces += self._fill(self._template())
        chance = draw()
        if chance < _LOWERED:
            return [Piece(piece.text.lower(), piece.tag) for piece in pieces]
        if chance < _LOWERED + _RAISED:
            return [Piece(piece.text.upper(), piece.tag) for piece in pieces]
        return pieces

    def _template(self) -> str:
        """A sentence of ours, or one of prose: names stand between more words than anybody thinks of."""
        if not self._plain or self._random.random() >= _WOVEN:
            return self._choice(self._templates)
        plain = self._choice(self._plain)
        things = list(_THING.finditer(plain))
        chosen = self._random.sample(things, min(len(things), self._random.choice((1, 1, 2, 3))))
        slots = self._random.choices(list(_WOVEN_IN), list(_WOVEN_IN.values()), k=len(chosen))
        # From the last to the first, so that places stay right.
        for thing, slot in sorted(zip(chosen, slots, strict=True), key=lambda pair: -pair[0].start()):
            plain = plain[: thing.start()] + slot + plain[thing.end() :]
        return _PLAIN_WORD.sub(self._exchanged, plain)

    def _exchanged(self, word: re.Match[str]) -> str:
        if self._random.random() >= _EXCHANGED:
            return word[0]
        return "{Word}" if word[0][0].isupper() else "{word}"

    def _fill(self, template: str) -> Iterator[Piece]:
        place = 0
        for slot in _SLOT.finditer(template):
            if slot.group(1) not in _SLOTS:  # JSON and code have braces of their own
                continue
            yield Piece(template[place : slot.start()], NONE)
            text, tag = _SLOTS[slot.group(1)](self)
            yield Piece(text, tag)
            place = slot.end()
        yield Piece(template[place:], NONE)

    def _choice(self, values: Sequence[str]) -> str:
        return self._random.choice(values)

    def _number(self, most: int = 9999) -> str:
        return str(self._random.randint(1, most))

    def _digits(self, shape: str) -> str:
        return re.sub("#", lambda match: str(self._random.randint(0, 9)), shape)

    def name(self) -> str:
        """A full name as it is written somewhere: with initials, doubled, the family first."""
        first, last = self._places.person(self._random)
        initial = f"{chr(self._random.randint(65, 90))}"
        chance = self._random.random()
        if chance < 0.68:
            return f"{first} {last}"
        if chance < 0.84:
            return f"{first} {initial}{self._choice(('.', '.', ''))} {last}"
        if chance < 0.88:
            return f"{initial}. {last}"
        if chance < 0.91:
            return f"{first} {self._places.person(self._random)[1]} {last}"
        if chance < 0.94:
            return f"{first} {self._places.person(self._random)[0]} {last}"
        if chance < 0.96:
            return f"{first} {last}-{self._places.person(self._random)[1]}"
        if chance < 0.98:
            return f"{first} {last} {self._choice(('Jr.', 'II', 'III', 'Sr'))}"
        return f"{last}, {first}"

    def org(self) -> str:
        lasts = [self._places.person(self._random)[1] for _ in range(3)]
        word, other = self._word().capitalize(), self._word()
        forms = (
            f"{lasts[0]} {self._choice(('Inc', 'Inc.', 'Ltd', 'LLC', 'GmbH', 'AG', 'Group', 'and Sons', 'Bank'))}",
            f"{lasts[0]}, {lasts[1]} and {lasts[2]}",
            f"{lasts[0]}-{lasts[1]}",
            word + other,
            word + other.capitalize(),
            f"{word} {other.capitalize()}",
            word,
            f"{word} {self._choice(('Technologies', 'Systems', 'Labs', 'Media', 'Airlines', 'Hospital', 'Software'))}",
        )
        return self._choice(forms)

    def street_number(self) -> str:
        """A street with its number, in the order of one country or another."""
        street, number = self.street(), self._number(self._random.choice((99, 99, 999, 9999, 99999)))
        chance = self._random.random()
        if chance < 0.4:
            return f"{number} {street}"
        if chance < 0.75:
            return f"{street} {number}{self._choice(('', '', '', 'a', '-' + number))}"
        if chance < 0.9:  # as forms fill them in: a number of the plot and one of the house
            return f"{number} {street} {self._number(999)}"
        if chance < 0.95:
            return f"{street}, {number}"
        return f"{number} {self._number(99)} {street}"

    def street(self) -> str:
        street = self._places.street(self._random)
        if self._random.random() < 0.12:
            street = f"{self._choice(('ul.', 'C/', 'Via', 'Rua', 'Rue', 'Calle', 'Av.', 'Avenue', 'Ulica'))} {street}"
        if self._random.random() < 0.05:
            street += self._choice((" St", " St.", " Rd", " u.", " utca", " ut", " Sq", " street"))
        return street

    def flat(self) -> str:
        return f"{self._choice(('Apt.', 'Suite', 'Apt', 'Unit', 'Flat', 'Floor', 'Room', '#'))} {self._digits('###')}"

    def post_code(self) -> str:
        if self._random.random() < 0.85:
            return self._digits(self._choice(("#####", "#####", "####", "######", "#####-####", "## ###")))
        district = f"{self._choice(('SW', 'N', 'LS', 'M'))}{self._number(19)}"
        return f"{district} {self._number(9)}{self._choice(('AB', 'QX', 'JT'))}"

    def post_box(self) -> str:
        """A post box, also of armed forces abroad."""
        chance = self._random.random()
        if chance < 0.4:
            box = self._choice(("PO Box", "P.O. Box", "Postfach", "Postbox", "Apartado", "BP", "Box"))
            return f"{box} {self._number()}"
        end = f"{self._choice(('AA', 'AE', 'AP'))} {self._digits('#####')}"
        if chance < 0.7:
            return (
                f"{self._choice(('PSC', 'Unit', 'CMR'))} {self._digits('####')}, Box {self._digits('####')}\nAPO {end}"
            )
        return f"{self._choice(('USS', 'USNS', 'USNV'))} {self.last()}\nFPO {end}"

    def address(self) -> str:
        """A whole address in one of the ways that letters, forms and exports write it."""
        if self._random.random() < 0.08:
            return self.post_box()
        street, city, zip_code = self.street_number(), self.city(), self.post_code()
        state = chr(self._random.randint(65, 90)) + chr(self._random.randint(65, 90))
        country = self._places.country(self._random)
        city = city.upper() if self._random.random() < 0.25 else city
        if self._random.random() < 0.5:
            street += f"{self._choice((' ', ', ', chr(10), chr(10) + ' ', '. '))}{self.flat()}"
        gap = self._choice((", ", ", ", "\n", "\n", "\n ", " ", " - "))
        forms = (
            f"{street}{gap}{city}, {state} {zip_code}",
            f"{street}{gap}{city}, {state} {zip_code}",
            f"{street}{gap}{zip_code} {city}",
            f"{street}{gap}{zip_code} {city}{gap}{country}",
            f"{street}{gap}{city}{gap}{country}",
            f"{street}{gap}{city}{gap}{country} {zip_code}",
            f"{street}{gap}{city}{gap}{country} {zip_code}",
            f"{street}{gap}{city}\n, {state}\n {zip_code}",
            f"{street}{gap}{city}\n, {state}\n {country} {zip_code}",
            f"{street}{gap}{city} {state}",
            f"{street}{gap}{city} {state} {zip_code}",
            f"{street}{gap}{city}",
            f"{street}",
            f"{street}{gap}{zip_code}",
        )
        return self._choice(forms)

    def city(self) -> str:
        return self._places.city(self._random)

    def country(self) -> str:
        return self._places.country(self._random)

    def first(self) -> str:
        return self._places.person(self._random)[0]

    def last(self) -> str:
        return self._places.person(self._random)[1]

    def _word(self) -> str:
        word = self._choice(self._words)
        if len(word) < 4 or self._random.random() >= _INFLECTED:
            return word
        ending = self._choice(_ENDINGS)
        return word.removesuffix("e" if ending[0] in "ei" else "") + ending

    def _several(self, change: Callable[[str], str]) -> str:
        return " ".join(change(self._word()) for _ in range(self._random.randint(2, 6)))

    def _date(self) -> str:
        day, month, year = self._random.randint(1, 28), self._random.randint(1, 12), self._random.randint(1930, 2026)
        return self._choice((
            f"{day}/{month}/{year}", f"{year}-{month:02}-{day:02}", f"{day} {_MONTHS[month - 1]} {year}",
            f"{_MONTHS[month - 1]} {day}, {year}", f"{day}.{month}.{year}", f"{_MONTHS[month - 1]} {day}",
        ))  # fmt: skip

    def _email(self) -> str:
        first, last = self._places.person(self._random)
        return f"{first}.{last}@{self._word()}.{self._choice(('com', 'org', 'de', 'net'))}".replace(" ", "")


_SLOTS: dict[str, Callable[[Texts], tuple[str, int]]] = {
    "name": lambda texts: (texts.name(), NAME),
    "first": lambda texts: (texts.first(), NAME),
    "last": lambda texts: (texts.last(), NAME),
    "address": lambda texts: (texts.address(), ADDRESS),
    "street_no": lambda texts: (texts.street_number(), ADDRESS),
    "street": lambda texts: (texts.street(), ADDRESS),
    "flat": lambda texts: (texts.flat(), ADDRESS),
    "pobox": lambda texts: (texts.post_box(), ADDRESS),
    "zip": lambda texts: (texts.post_code(), ADDRESS),
    "city": lambda texts: (texts.city(), NONE),
    "country": lambda texts: (texts.country(), NONE),
    "org": lambda texts: (texts.org(), NONE),
    "job": lambda texts: (texts._places.job(texts._random), NONE),
    "title": lambda texts: (texts._choice(_TITLES), NONE),
    "weekday": lambda texts: (texts._choice(_WEEKDAYS), NONE),
    "month": lambda texts: (texts._choice(_MONTHS), NONE),
    "nationality": lambda texts: (texts._choice(_NATIONALITIES), NONE),
    "drug": lambda texts: (texts._choice(_DRUGS), NONE),
    "date": lambda texts: (texts._date(), NONE),
    "year": lambda texts: (str(texts._random.randint(1900, 2030)), NONE),
    "age": lambda texts: (texts._number(99), NONE),
    "num": lambda texts: (texts._number(texts._random.choice((99, 9999, 999999999))), NONE),
    "money": lambda texts: (f"{texts._choice(('$', 'EUR ', '£'))}{texts._number()}", NONE),
    "phone": lambda texts: (
        texts._digits(texts._choice(("+1-###-###-####", "0### ######", "(###) ###-####", "## ## ## ##"))),
        NONE,
    ),
    "card": lambda texts: (texts._digits(texts._choice(("4###############", "5###-####-####-####"))), NONE),
    "iban": lambda texts: (texts._digits("DE## #### #### #### #### ##"), NONE),
    "email": lambda texts: (texts._email(), NONE),
    "url": lambda texts: (f"https://www.{texts._word()}{texts._word()}.com/{texts._word()}", NONE),
    "letter": lambda texts: (texts._choice("abcdefghijklmnopqrstuvwxyzABCKMNPTXYZ"), NONE),
    "word": lambda texts: (texts._word(), NONE),
    "words": lambda texts: (texts._several(str), NONE),
    "Word": lambda texts: (texts._word().capitalize(), NONE),
    "Words": lambda texts: (texts._several(str.capitalize), NONE),
}
