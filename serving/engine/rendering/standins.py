"""Stand-ins for what a client wrote: the same conversation with words that cannot become a control token.

A template that is given them writes the control tokens that are its own, and no others. For that it must go the same
way as with the client's words, so whatever it can ask of them stays: roles, types, names of fields, lengths, white
space, emptiness, and every string that the template itself looks for (`'</think>' in content`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import jinja2

# Read by vLLM and transformers themselves, whatever the template does.
_FIELDS: Final = frozenset({"role", "content"})
# Words out of closed lists, which templates compare.
_KINDS: Final = frozenset({"role", "type"})
# Before a string in a template's tokens: it is an argument, an item, a subscript, or compared.
_ASKED_AFTER: Final = frozenset({"lparen", "comma", "lbracket", "eq", "ne"})
_LEAST_CHARS: Final = 3
"""Shorter strings of the template are kept only where they are the whole value: `<|` and `|>` make tokens."""
_WORD: Final = re.compile(r"\w+")
_NO_SPACE: Final = re.compile(r"\S+")
_STAND_IN: Final = "x"
_ASCII: Final = {code: _STAND_IN for code in range(128) if not chr(code).isspace()}


class StandIns:
    """Makes them for one template.

    Args:
        structure: control tokens that no template has to look for in a text: `<|im_start|>`.
        written: those that models write into theirs: `</think>`. Whether a client may is for the guard to say.
    """

    def __init__(self, template: str, structure: Iterable[str], written: Iterable[str]) -> None:
        names, strings = _looked_for(template)
        tokens = tuple(structure)
        self._whole = frozenset(
            string
            for string in strings.union(written)
            if _WORD.search(string) and not any(token in string for token in tokens)
        )
        self._names = names | self._whole | _FIELDS
        kept = [string for string in self._whole if len(string) >= _LEAST_CHARS]
        longest_first = sorted(kept, key=lambda string: (-len(string), string))
        self._kept = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if kept else None

    def value(self, value: Any, keep: re.Pattern[str] | None = None) -> Any:
        """A copy of a JSON value with stand-ins for its strings. `keep`: what stays of them besides."""
        if isinstance(value, str):
            return self.text(value, keep)
        if isinstance(value, dict):
            return dict(self._fields(value, keep))
        if isinstance(value, list | tuple):
            return [self.value(item, keep) for item in value]
        return value

    def text(self, text: str, keep: re.Pattern[str] | None = None) -> str:
        """A text of the same length, of `x` and white space, with what the template looks for in its place."""
        if text in self._whole:
            return text
        if keep is not None:
            return "".join(part if odd else self.text(part) for part, odd in _split(keep, text))
        if self._kept is None:
            return _without_words(text)
        return "".join(part if odd else _without_words(part) for part, odd in _split(self._kept, text))

    def _fields(self, fields: dict[Any, Any], keep: re.Pattern[str] | None) -> Iterator[tuple[Any, Any]]:
        taken = set(self._names.intersection(fields))
        for number, (name, value) in enumerate(fields.items()):
            stand_in = name
            if isinstance(name, str) and name not in self._names:
                stand_in = self.text(name)
                # As many fields as before, and in no more steps than there are.
                while stand_in in taken:
                    stand_in = f"{stand_in}{number}"
                taken.add(stand_in)
            is_kind = name in _KINDS and isinstance(value, str) and _WORD.fullmatch(value)
            yield stand_in, value if is_kind else self.value(value, keep)


def _split(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, bool]]:
    """The text's parts, and of each whether it is a match of `pattern`, which has one group around it."""
    return ((part, bool(number % 2)) for number, part in enumerate(pattern.split(text)))


def _without_words(text: str) -> str:
    if text.isascii():
        return text.translate(_ASCII)
    return _NO_SPACE.sub(lambda run: _STAND_IN * len(run[0]), text)


def _looked_for(template: str) -> tuple[frozenset[str], frozenset[str]]:
    """Names of fields in a template, and the strings that it compares with, splits at, replaces.

    A string that is only written out is none of them. Statements are taken whole: what is assigned may be looked for.
    """
    tokens = list(jinja2.Environment().lexer.tokenize(template))  # noqa: S701 - renders nothing
    names, strings = set(), set()
    in_statement = False
    for number, token in enumerate(tokens):
        if token.type in ("block_begin", "block_end"):
            in_statement = token.type == "block_begin"
        elif token.type == "name":
            names.add(token.value)
        elif token.type == "string":
            # A string is never the first or the last token: tags enclose it.
            before, behind = tokens[number - 1].type, tokens[number + 1]
            if in_statement or before in _ASKED_AFTER or behind.type in ("eq", "ne") or behind.value == "in":
                strings.add(token.value)
    return frozenset(names), frozenset(strings)
