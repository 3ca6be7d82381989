"""What an answer says of its tokens: log-probabilities, alternatives, bytes and ids. They say no more than the text.

An engine sends a token's details when it has sampled the token, and the token's text when no stop string and no
parser of tool calls or reasoning can want it any more. So details are read as texts of their own: what the tokens
spell, and what the alternatives of each rank spell. An event waits until the guard has released all characters of its
own tokens, and goes without its details where any was changed.

Details that cannot be read, such as ids, come at the end of the choice, if nothing of it was changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from serving.gateway.context import RequestContext
from serving.gateway.streams.alternatives import Alternatives
from serving.gateway.streams.chunks import Json, decode_any, drop_token_details, encode
from serving.gateway.streams.spelled_text import SpelledText
from serving.gateway.streams.token_reader import PIECES, Spelled, TokenReader, spell_ranks
from serving.guard import Answers
from serving.guard.text.stream import MAX_HELD
from serving.http.sse import event_data

# How a template is named, whose text is its owner's.
TEMPLATE = "prompt:"

# Tokens whose text never comes, of a parser that swallows it: no more of them are compared with the text.
_MOST_SPELLED = 65_536
# The readings of the tokens themselves: as prose, as JSON with its escapes, and as pieces of a vocabulary.
_PROSE, _AS_JSON, _AS_PIECES = -3, -2, -1


def clean_details(guard: Answers, details: Any) -> Any:
    """Details of a whole text, which the guard did not change, as they may be shown; None: not at all."""
    spelled = TokenReader().read(details)
    if spelled is None:
        return None
    own = ["".join(spelled.tokens)]
    return None if _spells_a_value(guard, [own]) or _spells_a_value(guard, spelled.alternatives) else spelled.value


def clean_prompt_details(context: RequestContext, guard: Answers, holder: Json) -> Json:
    """What the client may see of the question's tokens: what it asked for, of a prompt that is its own."""
    question = context.question
    shown: Json = {}
    if question.asked_model.startswith(TEMPLATE) or guard.hides_prompt:
        return shown
    ids = holder.get("prompt_token_ids")
    if question.body.get("return_token_ids") and isinstance(ids, list):
        shown["prompt_token_ids"] = [token_id for token_id in ids if type(token_id) is int]
    details = holder.get("prompt_logprobs")
    if question.body.get("prompt_logprobs") is not None and isinstance(details, list):
        kept = [_prompt_token(ranks) for ranks in details]
        ranked = [[str(token.get("decoded_token") or "") for token in (ranks or {}).values()] for ranks in kept]
        if not _spells_a_value(guard, ranked):
            shown["prompt_logprobs"] = kept
    return shown


def _spells_a_value(guard: Answers, ranked: Sequence[Sequence[str]]) -> bool:
    """Whether tokens, each with its alternatives behind it, spell what the guard would change."""
    for rank, text in enumerate(spell_ranks(ranked)):
        pieces = text.translate(PIECES)
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


_Span = tuple[SpelledText, int, int]


class _Event:
    """An event with details, until the guard is sure of them.

    Args:
        position: of its alternatives (`Alternatives.read`); -1 without any.
        spans: from where to where its own tokens reach in each reading, where they do not spell its text.
    """

    __slots__ = ("event", "position", "spans", "value")

    def __init__(self, event: bytes, position: int, spans: Sequence[_Span] = (), value: Any = None) -> None:
        self.event = event
        self.position = position
        self.spans = spans
        self.value = value

    @property
    def refused(self) -> bool:
        return any(spelled.changed(start, end) for spelled, start, end in self.spans)

    @property
    def settled(self) -> bool:
        return all(spelled.settled >= end for spelled, _, end in self.spans)


class DetailGate:
    """Where the events of one choice wait for their details.

    Args:
        without: writes an event without its details.
    """

    def __init__(self, guard: Answers, without: Callable[[bytes], bytes]) -> None:
        self._guard = guard
        self._without = without
        self._reader = TokenReader()
        self._alternatives = Alternatives(guard)
        self._position = -1  # of the alternatives that were read last
        self._newest: bytes | None = None  # what `read_words` took last, which is not among `_detailed`
        self._spelled_texts: dict[int, SpelledText] = {}
        self._waiting: deque[bytes] = deque()
        # By the identity of their bytes, which an event keeps while nothing of it is changed.
        self._detailed: dict[int, _Event] = {}
        self._spelled = self._before = ""
        self._readable = True
        self.late: list[Any] = []
        """Details that could not be lined up with the text."""
        self.late_ids: list[int] = []

    def begin(self, before: str) -> None:
        """What tokens spelled before, in events that have gone with their details."""
        self._hold_newest()
        self._text_of(_PROSE).feed(before)
        self._before = before

    def read(self, details: Any) -> Spelled | None:
        """Take an event's details: what may be shown of them with the event, if its time has come."""
        spelled = self._reader.read(details)
        if spelled is None:
            return None
        self._position = self._alternatives.read([text.translate(PIECES) for text in spell_ranks(spelled.alternatives)])
        return spelled if self._read_tokens(spelled) else None

    def read_ranks(self, events: Sequence[bytes], ranks: Sequence[Sequence[str]]) -> None:
        """Take what alternatives spell of events whose own tokens spell their text; they carry their details already.

        `ranks`: for each event, what the alternatives of each rank spell (`token_reader.ranks_of`).
        """
        self._hold_newest()
        detailed, read = self._detailed, self._alternatives.read
        for event, texts in zip(events, ranks, strict=True):
            detailed[id(event)] = _Event(event, read(texts))

    def read_words(self, event: bytes, texts: Sequence[str]) -> bool:
        """As `read_ranks`, of alternatives that are known words: all events before this one may go with their details.

        False: they are not, or there are events that wait; nothing was read.
        """
        alternatives = self._alternatives
        if self._waiting or self._spelled_texts or alternatives.refused or not alternatives.read_words(texts):
            return False
        self._detailed.clear()
        self._newest = event
        return True

    def hold(self, event: bytes) -> None:
        """The event that `read_words` took would go before what comes next says whether it may."""
        self._hold_newest()
        self._waiting.append(event)

    def _hold_newest(self) -> None:
        if self._newest is not None:
            self._detailed[id(self._newest)] = _Event(self._newest, self._alternatives.num_read - 1)
            self._newest = None

    def read_own(self, event: bytes, details: Any) -> None:
        """Read the own tokens of such an event, since those that follow do not spell their text."""
        spelled = self._reader.read(details)
        if spelled is None or not self._read_tokens(spelled):
            return
        known = self._detailed.get(id(event))
        if known is None:
            known = self._detailed[id(event)] = _Event(event, -1)
        known.value = spelled.value
        known.spans = self._spans(spelled)

    def _read_tokens(self, spelled: Spelled) -> bool:
        """False: they are not told as the text is written, and have to wait for the end."""
        text = "".join(spelled.tokens)
        pieces = text.translate(PIECES)
        self._text_of(_PROSE).feed(text)
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
        self._detailed[id(event)] = _Event(event, self._position, self._spans(spelled), spelled.value)

    def _spans(self, spelled: Spelled) -> list[_Span]:
        """How far the tokens that were read last reach."""
        size = sum(map(len, spelled.tokens))
        return [(text, text.fed - size, text.fed) for text in self._spelled_texts.values()]

    def note_text(self, text: str) -> None:
        """A text of the choice has come: its tokens have to be among those that were read, or others are meant."""
        if not self._readable:
            return
        text = _ascii(text)
        start = self._spelled.find(text)
        if start < 0:
            self._give_up()
        else:
            self._spelled = self._spelled[start + len(text) :]

    def pass_on(self, events: Sequence[bytes], out: list[bytes]) -> None:
        """Add to `out` the events that may go now; the order stays."""
        self._hold_newest()
        waiting, detailed = self._waiting, self._detailed
        settled, refused = self._alternatives.num_settled, self._alternatives.refused
        waiting.extend(events)
        while waiting:
            event = waiting[0]
            known = detailed.get(id(event))
            if known is not None:
                if not self._readable or known.position in refused or (known.spans and known.refused):
                    event = self._without(event)
                elif known.position >= settled or (known.spans and not known.settled):
                    return
                del detailed[id(known.event)]
            waiting.popleft()
            out.append(event)

    def finish(self, out: list[bytes]) -> None:
        """The choice is complete: nothing waits any more."""
        self._alternatives.finish()
        for spelled in self._spelled_texts.values():
            spelled.finish()
        self.pass_on((), out)

    @property
    def readable(self) -> bool:
        """Whether the tokens are told as the text is written."""
        return self._readable

    @property
    def changed(self) -> bool:
        """Whether anything that tokens spell was changed."""
        return self._alternatives.changed or any(spelled.changes for spelled in self._spelled_texts.values())

    def _text_of(self, number: int) -> SpelledText:
        spelled = self._spelled_texts.get(number)
        if spelled is None:
            spelled = self._spelled_texts[number] = SpelledText(self._guard.stream())
        return spelled

    def _feed_from(self, rank: int, text: str, *, begins: bool) -> None:
        """Feed another reading of the tokens themselves, which begins with its first sign, by what came right before.

        Events that wait already are held to it too.
        """
        if rank not in self._spelled_texts:
            if not begins:
                return
            prose = self._spelled_texts[_PROSE]
            start = prose.fed - len(text) - len(self._before)
            spelled = self._spelled_texts[rank] = SpelledText(self._guard.stream(json=rank == _AS_JSON), start)
            for waiting in self._detailed.values():
                more = [(spelled, first, last) for own, first, last in waiting.spans if own is prose]
                waiting.spans = [*waiting.spans, *more]
            spelled.feed(self._before)
        self._spelled_texts[rank].feed(text)

    def _give_up(self) -> None:
        """The tokens are not told as the text is written: their details have to wait for the end."""
        if self._readable:
            self._readable = False
            self._spelled = ""
            self.late = [waiting.value or details_in(waiting.event) for waiting in self._detailed.values()]


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
    return [entry for part in lists for entry in part or ()] if any(part is not None for part in lists) else None


def _ascii(text: str) -> str:
    """What of a text can be compared: a character may come in parts."""
    return text if text.isascii() else text.encode("ascii", "ignore").decode()
