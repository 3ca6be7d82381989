"""Control tokens: the strings that a chat template uses for structure, and how they are made inert.

A tokenizer turns `<|im_start|>` into one control token wherever it stands, in a user's words too. Inert means that
the string no longer occurs, nor anything that a tokenizer could fold into it, while a reader sees the same: a space
goes in after the first character (`< |im_start|>`).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from serving.guard.question.known_tokens import AMBIGUOUS_TOKENS, KNOWN_TOKENS
from serving.guard.text.folding import fold_wide, origins

MADE = "control_token_made"
"""The error's code where a chat template makes a control token of a client's words (`serving.engine.rendering`)."""
_DELETED = r"(?:/[a-z_]{1,24}){0,4}"
"""What chat templates take out of a user's words: `/think`, `/no_think` and other switches. What is left on both sides
meets, and `<|im_/thinkstart|>` would be a control token."""
_SEAM_CHARS = 256
"""On both sides of a seam: a token, and what a template may take out of it."""
_MAX_PASSES = 8
"""Breaking one token can bare another that overlapped it; tokens do not overlap so deep."""


class ControlTokens:
    """A set of control tokens, found in text and broken."""

    def __init__(self, served: Iterable[str], extra: Iterable[str] = ()) -> None:
        """`served`: the served models' own. Without any the model is unknown, and what might be a token is one."""
        served = frozenset(served)
        tokens = KNOWN_TOKENS | served | frozenset(extra) | (frozenset() if served else AMBIGUOUS_TOKENS)
        # A token of one character, or of spaces, is no structure that could be broken and still be read.
        folded = {fold_wide(token) for token in tokens if len(token.strip()) > 1}
        self._pattern = re.compile(trie_pattern(folded, between=_DELETED))

    def inert(self, text: str) -> tuple[str, int]:
        """`text` without control tokens, and how many there were."""
        if text.isascii() and self.none_in(text):
            return text, 0
        count = 0
        for _ in range(_MAX_PASSES):
            places = self._places(text)
            if not places:
                break
            count += len(places)
            text = _with_spaces(text, places)
        return text, count

    def none_in(self, text: str) -> bool:
        """Whether an ASCII text is certainly without control tokens."""
        return self._pattern.search(text) is None

    def meet(self, texts: Iterable[str]) -> bool:
        """Whether texts, none of which holds a control token, would hold one if each were joined to the one before."""
        tail = ""
        for text in texts:
            if tail and text:
                seam = tail + text[:_SEAM_CHARS]
                if not (seam.isascii() and self.none_in(seam)) and self._places(seam):
                    return True
            tail = (tail + text)[-_SEAM_CHARS:]
        return False

    def inert_parts(self, parts: list[str]) -> tuple[list[str], int]:
        """Like `inert` for texts that may be joined later: no token is in one of them or across their seams."""
        cleaned = [self.inert(part) for part in parts]
        parts, count = [part for part, _ in cleaned], sum(number for _, number in cleaned)
        for _ in range(_MAX_PASSES):
            places = self._places("".join(parts))
            if not places:
                break
            count += len(places)
            parts = list(_parts_with_spaces(parts, places))
        return parts, count

    def _places(self, text: str) -> list[int]:
        """Where spaces have to go: after the first character of every token."""
        folded = fold_wide(text)
        starts = [match.start() for match in self._pattern.finditer(folded)]
        if not starts or len(folded) == len(text):
            return [start + 1 for start in starts]
        origin = origins(text)
        return sorted({origin[start] + 1 for start in starts})


def _with_spaces(text: str, places: list[int]) -> str:
    pieces = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
    return " ".join(pieces)


def _parts_with_spaces(parts: Iterable[str], places: Sequence[int]) -> Iterator[str]:
    """The parts of a text, with spaces at rising places of the whole; one between two parts ends the first."""
    number = start = 0
    for part in parts:
        first, end = number, start + len(part)
        number = bisect_right(places, end, lo=first)
        own = [place - start for place in places[first:number]]
        yield _with_spaces(part, own) if own else part
        start = end


class _Node(dict[str, "_Node"]):
    """A place in the trie: the characters that may follow. A token ends here when there is none."""


def trie_pattern(tokens: Iterable[str], between: str = "") -> str:
    """A pattern for any of `tokens` that shares their beginnings: the time it takes does not grow with their number.

    `between`: a pattern for what may stand between two characters of a token.
    """
    root = _Node()
    for token in sorted(tokens, key=len, reverse=True):
        node = root
        for char in token:
            node = node.setdefault(char, _Node())
        node.clear()  # longer tokens that begin with this one are found by it
    return _node_pattern(root, between)


def _node_pattern(node: _Node, between: str) -> str:
    """A pattern for the rest of the tokens below `node`, which has one."""
    branches = [
        re.escape(char) + (between + _node_pattern(child, between) if child else "")
        for char, child in sorted(node.items())
    ]
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"
