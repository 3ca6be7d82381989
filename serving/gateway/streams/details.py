"""What an answer says of its tokens: log-probabilities, alternatives, bytes and ids. They say no more than the text.

An engine sends a token's details when it has sampled the token, and the token's text when no stop string and no
parser of tool calls or reasoning can want it any more. So details are read as texts of their own: what the tokens
spell, and what the alternatives of each rank spell. An event waits until the guard has released all characters of its
own tokens, and goes without its details where any was changed.

Details that cannot be read, such as ids, come at the end of the choice, if nothing of it was changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any

from serving.gateway.context import RequestContext
from serving.gateway.streams.chunks import Json, decode_any, drop_token_details, encode
from serving.gateway.streams.sse import event_data
from serving.gateway.streams.token_reader import Spelled, TokenReader, spell_ranks
from serving.guard import Answers, TextStream
from serving.guard.stream import MAX_HELD, PROSE

# How a template is named, whose text is its owner's.
TEMPLATE = "prompt:"

# Tokens whose text never comes, of a parser that swallows it: no more of them are compared with the text.
_MOST_SPELLED = 65_536
# Ordinary words that wait to be read together: enough to make up for the call.
_MOST_LATER = 2048
# The readings of the tokens themselves: as prose, as JSON with its escapes, and as pieces of a vocabulary.
_PROSE, _AS_JSON, _AS_PIECES = -3, -2, -1
# How vocabularies write spaces and line ends; a guard would take these for letters, and a value for part of a word.
_PIECES = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n", "ĉ": "\t", "č": "\r"})


def clean_details(guard: Answers, details: Any) -> Any:
    """Details of a whole text, which the guard did not change, as they may be shown; None: not at all."""
    spelled = TokenReader().read(details)
    if spelled is None:
        return None
    own = ["".join(spelled.tokens)]
    return None if _spells_a_value(guard, [own]) or _spells_a_value(guard, spelled.alternatives) else spelled.value


def clean_prompt_details(context: RequestContext, guard: Answers, found: Json) -> Json:
    """What the client may see of the question's tokens: what it asked for, of a prompt that is its own."""
    shown: Json = {}
    if context.asked_model.startswith(TEMPLATE) or guard.hides_prompt:
        return shown
    ids = found.get("prompt_token_ids")
    if context.body.get("return_token_ids") and isinstance(ids, list):
        shown["prompt_token_ids"] = [each for each in ids if type(each) is int]
    details = found.get("prompt_logprobs")
    if context.body.get("prompt_logprobs") is not None and isinstance(details, list):
        kept = [_prompt_token(each) for each in details]
        ranked = [[str(own.get("decoded_token") or "") for own in (each or {}).values()] for each in kept]
        if not _spells_a_value(guard, ranked):
            shown["prompt_logprobs"] = kept
    return shown


def _spells_a_value(guard: Answers, ranked: Sequence[Sequence[str]]) -> bool:
    """Whether tokens, each with its alternatives behind it, spell what the guard would change."""
    for rank, text in enumerate(spell_ranks(ranked)):
        pieces = text.translate(_PIECES)
        if guard.clean_text(text)[0] != text or (pieces != text and guard.clean_text(pieces)[0] != pieces):
            return True
        if rank == 0 and guard.clean_text(text, json=True)[0] != text:
            return True
    return False


def _prompt_token(token: Any) -> Json | None:
    """One position of vLLM's `prompt_logprobs`: ids to what is said of them, the prompt's own token first."""
    if not isinstance(token, dict):
        return None
    return {
        number: {name: own[name] for name in ("logprob", "rank", "decoded_token") if name in own}
        for number, own in token.items()
        if number.isdecimal() and isinstance(own, dict)
    }


class _Reading:
    """One text that details spell, and how far the guard has released it as it is."""

    __slots__ = ("_cleaner", "_later", "_raw", "_word", "changes", "fed", "settled")

    def __init__(self, cleaner: TextStream, start: int = 0) -> None:
        """`start`: characters that came before, which it does not read."""
        self._cleaner = cleaner
        self._raw = ""
        self.changes: list[tuple[int, int]] = []
        self.fed = self.settled = start
        self._later = ""  # ordinary words, which the cleaner gets when something else comes
        self._word: str | None = "" if cleaner.at_rest else None  # of them, what may go on; None: it is not at rest

    def feed(self, text: str) -> None:
        word = self._word
        if word is not None and len(self._later) < _MOST_LATER:
            prose = PROSE.fullmatch(word + text)
            if prose is not None:
                self._later += text
                self._word = word = prose[1]
                self.fed = fed = self.fed + len(text)
                self.settled = fed - len(word)
                return
        text = self._catch_up() + text
        self._raw += text
        self.fed += len(text)
        cleaner = self._cleaner
        self._compare(cleaner.feed(text), cleaner.held)
        self._word = self._raw if cleaner.at_rest else None

    def finish(self) -> None:
        text = self._catch_up()
        self._raw += text
        self.fed += len(text)
        self._compare(self._cleaner.feed(text) + self._cleaner.finish() if text else self._cleaner.finish(), 0)

    def _catch_up(self) -> str:
        """What was put off, as if it had not come yet."""
        later, self._later = self._later, ""
        if later:
            self.fed -= len(later)
            self.settled = self.fed - len(self._raw)
        return later

    def changed(self, start: int, end: int) -> bool:
        for first, last in reversed(self.changes):
            if last <= start:
                break
            if first < end:
                return True
        return False

    def _compare(self, released: str, held: int) -> None:
        raw = self._raw
        if raw.startswith(released) and len(raw) - len(released) <= held:
            self._raw = raw[len(released) :]
            self.settled += len(released)
            return
        same = next((at for at, (a, b) in enumerate(zip(raw, released, strict=False)) if a != b), len(released))
        first, last = self.settled + min(same, len(raw)), self.fed - held
        self.changes.append((min(first, last), max(last, first + 1)))
        self.settled = last
        self._raw = raw[len(raw) - held :] if held else ""


class _Event:
    """An event with details, until the guard is sure of them: from where to where they reach in each reading."""

    __slots__ = ("event", "spans", "value")

    def __init__(self, event: bytes, spans: list[tuple[_Reading, int, int]], value: Any) -> None:
        self.event = event
        self.spans = spans
        self.value = value

    @property
    def refused(self) -> bool:
        return any(reading.changed(start, end) for reading, start, end in self.spans)

    @property
    def settled(self) -> bool:
        for reading, _, end in self.spans:  # noqa: SIM110 - for each event of a stream, and faster so
            if reading.settled < end:
                return False
        return True


class DetailGate:
    """Where the events of one choice wait for their details.

    Args:
        without: writes an event without its details.
    """

    def __init__(self, guard: Answers, without: Callable[[bytes], bytes]) -> None:
        self._guard = guard
        self._without = without
        self._reader = TokenReader()
        self._readings: dict[int, _Reading] = {}
        self._waiting: deque[tuple[bytes, _Event | None]] = deque()
        # By the identity of their bytes, which an event keeps while nothing of it is changed.
        self._detailed: dict[int, _Event] = {}
        self._spelled = self._before = ""
        self._readable = True
        self.late: list[Any] = []
        """Details that could not be lined up with the text."""
        self.late_ids: list[int] = []

    def begin(self, before: str) -> None:
        """What tokens spelled before, in events that have gone with their details."""
        self._reading(_PROSE).feed(before)
        self._before = before

    def read(self, details: Any) -> Spelled | None:
        """Take an event's details: what may be shown of them with the event, if its time has come."""
        spelled = self._reader.read(details)
        if spelled is None:
            return None
        for rank, text in enumerate(spell_ranks(spelled.alternatives)):
            self._reading(rank).feed(text.translate(_PIECES))
        return spelled if self._read_tokens(spelled) else None

    def read_ranks(self, events: Sequence[bytes], ranks: Sequence[Sequence[str]]) -> None:
        """Take what alternatives spell of events whose own tokens spell their text; they carry their details already.

        `ranks`: for each event, what the alternatives of each rank spell.
        """
        fed: list[tuple[_Reading, tuple[str, ...]]] = []
        settled = len(events)  # the first so many are: nothing of them can change any more
        for rank, texts in enumerate(zip_longest(*ranks, fillvalue="")):
            reading = self._readings.get(rank) or self._reading(rank)
            text = "".join(texts)
            reading.feed(text if text.isascii() else text.translate(_PIECES))
            fed.append((reading, texts))
            settled = 0 if reading.changes else min(settled, _num_settled(reading, texts))
        if settled == len(events):
            return
        spans: list[list[tuple[_Reading, int, int]]] = [[] for _ in events[settled:]]
        for event, own in zip(events[settled:], spans, strict=True):
            self._detailed[id(event)] = _Event(event, own, None)
        for reading, texts in fed:
            end = reading.fed
            for own, text in zip(reversed(spans), reversed(texts[settled:]), strict=True):
                start = end - len(text)
                own.append((reading, start, end))
                end = start

    def read_own(self, event: bytes, details: Any) -> None:
        """Read the own tokens of such an event, since those that follow do not spell their text."""
        spelled = self._reader.read(details)
        if spelled is None or not self._read_tokens(spelled):
            return
        known = self._detailed.get(id(event))
        if known is None:
            known = self._detailed[id(event)] = _Event(event, [], None)
        known.value = spelled.value
        known.spans += self._spans([own for own in self._readings if own < 0], spelled)

    def _read_tokens(self, spelled: Spelled) -> bool:
        """False: they are not told as the text is written, and have to wait for the end."""
        text = "".join(spelled.tokens)
        pieces = text.translate(_PIECES)
        self._reading(_PROSE).feed(text)
        # Before the first escape, or the first sign of a piece, there is nothing that prose does not show.
        self._feed_from(_AS_JSON, text, begins="\\" in text)
        self._feed_from(_AS_PIECES, pieces, begins=pieces != text)
        self._before = (self._before + text)[-MAX_HELD:]
        if self._readable:
            self._spelled += _ascii(text)
        if not spelled.readable or len(self._spelled) > _MOST_SPELLED:
            self._give_up()
        if not self._readable:
            self.late.append(spelled.value)
        return self._readable

    def expect(self, event: bytes, spelled: Spelled) -> None:
        """The event carries the details that were read last."""
        self._detailed[id(event)] = _Event(event, self._spans(self._readings, spelled), spelled.value)

    def _spans(self, numbers: Iterable[int], spelled: Spelled) -> list[tuple[_Reading, int, int]]:
        """How far what was read last reaches in these readings."""
        ranks = list(map(len, spell_ranks(spelled.alternatives)))
        own = sum(map(len, spelled.tokens))
        spans = []
        for number in numbers:
            reading = self._readings[number]
            size = own if number < 0 else ranks[number] if number < len(ranks) else 0
            spans.append((reading, reading.fed - size, reading.fed))
        return spans

    def note_text(self, text: str) -> None:
        """A text of the choice has come: its tokens have to be among those that were read, or others are meant."""
        if not self._readable:
            return
        text = _ascii(text)
        found = self._spelled.find(text)
        if found < 0:
            self._give_up()
        else:
            self._spelled = self._spelled[found + len(text) :]

    def pass_on(self, events: Sequence[bytes], out: list[bytes]) -> None:
        """Add to `out` the events that may go now; the order stays."""
        for event in events:
            details = self._detailed.get(id(event))
            if details is None and not self._waiting:
                out.append(event)
            else:
                self._waiting.append((event, details))
        changed = bool(self._waiting) and self.changed
        while self._waiting:
            event, details = self._waiting[0]
            if details is not None:
                if (changed and details.refused) or not self._readable:
                    event = self._without(event)
                elif not details.settled:
                    return
                del self._detailed[id(details.event)]
            self._waiting.popleft()
            out.append(event)

    def finish(self, out: list[bytes]) -> None:
        """The choice is complete: nothing waits any more."""
        for reading in self._readings.values():
            reading.finish()
        self.pass_on((), out)

    @property
    def readable(self) -> bool:
        """Whether the tokens are told as the text is written."""
        return self._readable

    @property
    def changed(self) -> bool:
        """Whether anything that tokens spell was changed."""
        return any(reading.changes for reading in self._readings.values())

    def _reading(self, number: int) -> _Reading:
        reading = self._readings.get(number)
        if reading is None:
            reading = self._readings[number] = _Reading(self._guard.stream())
        return reading

    def _feed_from(self, rank: int, text: str, *, begins: bool) -> None:
        """Feed another reading of the tokens themselves, which begins with its first sign, by what came right before.

        Events that wait already are held to it too.
        """
        if rank not in self._readings:
            if not begins:
                return
            prose = self._readings[_PROSE]
            start = prose.fed - len(text) - len(self._before)
            reading = self._readings[rank] = _Reading(self._guard.stream(json=rank == _AS_JSON), start)
            for waiting in self._detailed.values():
                waiting.spans += [(reading, first, last) for own, first, last in waiting.spans if own is prose]
            reading.feed(self._before)
        self._readings[rank].feed(text)

    def _give_up(self) -> None:
        """The tokens are not told as the text is written: their details have to wait for the end."""
        if self._readable:
            self._readable = False
            self._spelled = ""
            self.late = [each.value or details_in(each.event) for each in self._detailed.values()]


def _num_settled(reading: _Reading, texts: Sequence[str]) -> int:
    """How many of the texts that a reading was fed last the guard has released."""
    end, num = reading.fed, len(texts)
    while num and end > reading.settled:
        num -= 1
        end -= len(texts[num])
    return num


def details_in(event: bytes) -> Any:
    """The details that an event of one choice carries."""
    return decode_any(event_data(event) or b"{}")["choices"][0].get("logprobs")


def without_details(event: bytes) -> bytes:
    """An event of a chat or completion without its details."""
    data = decode_any(event_data(event) or b"{}")
    for choice in data["choices"]:
        drop_token_details(choice)
    return b"data: " + encode(data)


def joined_details(parts: Sequence[Any]) -> Any:
    """Details of several events as those of one."""
    if not parts:
        return None
    if isinstance(parts[0], list):
        return [entry for part in parts for entry in part]
    return {name: _joined([part.get(name) for part in parts]) for name in dict.fromkeys(k for p in parts for k in p)}


def _joined(lists: Sequence[list[Any] | None]) -> list[Any] | None:
    return [each for one in lists for each in one or ()] if any(one is not None for one in lists) else None


def _ascii(text: str) -> str:
    """What of a text can be compared: a character may come in parts."""
    return text if text.isascii() else text.encode("ascii", "ignore").decode()
