"""Reads what an engine says of its tokens: what is known of it, and the texts that it spells."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import Any

from serving.gateway.streams.chunks import Json, TokenDetails

_NUMBERED = re.compile(r"token_id:\d+")
_IN_BYTES = re.compile(r"bytes:(?:\\x[0-9A-Fa-f]{2})+")
_ODDLY_TOLD = ("bytes:", "token_id:")
_UNKNOWN = "\ufffd"
PIECES = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n", "ĉ": "\t", "č": "\r"})
"""How vocabularies write spaces and line ends; a guard would take these for letters, and a value for part of a word."""


class Spelled:
    """Details of some tokens, freed of all that is not known: what they say, and what is spelled by it."""

    __slots__ = ("alternatives", "readable", "tokens", "value")

    def __init__(self, value: Any, tokens: list[str], alternatives: list[list[str]], readable: bool) -> None:
        self.value = value
        self.tokens = tokens
        self.alternatives = alternatives
        self.readable = readable
        """Whether the tokens are told by their texts."""


def tell_text(tokens: Sequence[TokenDetails], text: str) -> bool:
    """Whether the tokens of details spell a text, in whichever way they are read; alternatives say what they spell.

    What holds for the text then holds for its tokens. Alternatives are still to be read (`DetailGate.read_ranks`).
    """
    # Escapes, signs of vocabularies, and characters in parts can be read in several ways.
    if not text.isascii() or "\\" in text or "".join([token.token for token in tokens]) != text:
        return False
    for own in tokens:
        for candidate in (own, *own.top_logprobs):
            token = candidate.token
            if candidate.bytes is not None and candidate.bytes != list(token.encode()):
                return False
            if _UNKNOWN in token or token.startswith(_ODDLY_TOLD):
                return False
    return True


def ranks_of(tokens: Sequence[TokenDetails]) -> list[str]:
    """What the alternatives of each rank spell, as a guard reads it."""
    texts = spell_ranks([[other.token for other in own.top_logprobs] for own in tokens])
    return [text if text.isascii() else text.translate(PIECES) for text in texts]


def spell_ranks(alternatives: Sequence[Sequence[str]]) -> list[str]:
    """What the tokens of each rank spell, from those of each position."""
    if len(alternatives) == 1:
        return list(alternatives[0])
    most = max(map(len, alternatives), default=0)
    return ["".join([tokens[rank] for tokens in alternatives if rank < len(tokens)]) for rank in range(most)]


class TokenReader:
    """Reads details in the order of their tokens; characters may be spread over several of them."""

    def __init__(self) -> None:
        self._bytes = _decoder()
        self._rank_bytes: list[codecs.IncrementalDecoder] = []
        self._readable = True

    def read(self, details: Any) -> Spelled | None:
        """None: nothing of it is known, so nothing can be shown."""
        self._readable = True
        tokens: list[str] = []
        alternatives: list[list[str]] = []
        value: Any = None
        if isinstance(details, list):
            value = self._entries(details, tokens, alternatives)
        elif isinstance(details, dict) and isinstance(details.get("tokens"), list):
            value = self._columns(details, tokens, alternatives)
        elif isinstance(details, dict):
            value = {
                part: self._entries(details[part], tokens, alternatives)
                for part in ("content", "refusal")
                if isinstance(details.get(part), list)
            }
            if value:
                value = {**dict.fromkeys(part for part in ("content", "refusal") if part in details), **value}
        return Spelled(value, tokens, alternatives, self._readable) if value else None

    def _entries(self, entries: list[Any], tokens: list[str], alternatives: list[list[str]]) -> list[Json]:
        shown = []
        for entry in entries:
            if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
                self._readable = False
                continue
            one, text = self._entry(entry, self._bytes)
            others: list[Json] = []
            ranks: list[str] = []
            for other in entry.get("top_logprobs") or ():
                if isinstance(other, dict) and isinstance(other.get("token"), str):
                    # What a number stands for cannot be read, and no text tells it.
                    if _NUMBERED.fullmatch(other["token"]) is not None:
                        continue
                    if len(ranks) == len(self._rank_bytes):
                        self._rank_bytes.append(_decoder())
                    kept, rank = self._entry(other, self._rank_bytes[len(ranks)])
                    others.append(kept)
                    ranks.append(rank)
            if "top_logprobs" in entry:
                one["top_logprobs"] = others
            tokens.append(text)
            alternatives.append(ranks)
            shown.append(one)
        return shown

    def _entry(self, entry: Json, decoder: codecs.IncrementalDecoder) -> tuple[Json, str]:
        token: str = entry["token"]
        kept = {name: entry[name] for name in ("id", "token", "logprob", "rank") if _is_number_or(entry, name, "token")}
        text = token
        spelled = entry.get("bytes")
        if "bytes" in entry:
            kept["bytes"] = None
        in_bytes = _IN_BYTES.fullmatch(token) is not None
        if _UNKNOWN in token or in_bytes:
            # A part of a character: what its bytes say.
            raw = _as_bytes(spelled)
            if raw is not None and not in_bytes and not _spell_parts(raw, token):
                raw = None
            if raw is None or in_bytes:
                self._readable = False
            if raw is not None:
                text = decoder.decode(raw)
                kept["bytes"] = spelled
            return kept, text
        decoder.reset()
        if _NUMBERED.fullmatch(token) is not None:
            self._readable = False
        elif _as_bytes(spelled) == token.encode(errors="replace"):
            kept["bytes"] = spelled
        return kept, text

    def _columns(self, details: Json, tokens: list[str], alternatives: list[list[str]]) -> Json:
        own = [token if isinstance(token, str) else "" for token in details["tokens"]]
        kept: Json = {"tokens": own}
        tokens += own
        if any(_NUMBERED.fullmatch(token) for token in own):
            self._readable = False
        for name in ("token_logprobs", "text_offset"):
            if isinstance(details.get(name), list):
                kept[name] = [number if isinstance(number, int | float) else None for number in details[name]]
        ranked = details.get("top_logprobs")
        if isinstance(ranked, list):
            named = dict(enumerate(own))
            kept["top_logprobs"] = [_probabilities(ranks, named.get(n, "")) for n, ranks in enumerate(ranked)]
            alternatives += [list(ranks or ()) for ranks in kept["top_logprobs"]]
        return kept


def _probabilities(value: Any, own: str) -> Json | None:
    """Tokens and how likely they were; of those told by numbers only the one that was chosen, which is `own`."""
    if not isinstance(value, dict):
        return None
    return {
        token: logprob
        for token, logprob in value.items()
        if (isinstance(logprob, int | float) or logprob is None)
        and (token == own or _NUMBERED.fullmatch(token) is None)
    }


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")


def _spell_parts(raw: bytes, token: str) -> bool:
    """Whether bytes spell a token, parts of characters left out."""
    return raw.decode(errors="replace").replace(_UNKNOWN, "") == token.replace(_UNKNOWN, "")


def _is_number_or(entry: Json, name: str, text: str) -> bool:
    return name == text or (name in entry and (entry[name] is None or isinstance(entry[name], int | float)))


def _as_bytes(value: Any) -> bytes | None:
    if not isinstance(value, list) or not all(type(byte) is int and 0 <= byte < 256 for byte in value):
        return None
    return bytes(value)
