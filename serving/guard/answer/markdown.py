"""How a reader of Markdown takes what stands in a line: blocks of HTML, and names of targets.

By CommonMark (https://spec.commonmark.org/0.31.2/), and with doubt: what may begin a block counts as one that does.
"""

from __future__ import annotations

import re

CONTEXT = 64
"""Characters before a sign on which it depends: its line so far, or the name that a target gets."""
TO_BLANK_LINE = ("\n\n",)
"""The end of most blocks of HTML."""

_LEAD = re.compile(r"[\s>*+.)0-9-]*+")
_DECLARED = re.compile(r"<(?:!--|!\[CDATA\[|![A-Za-z]|[?/])")
_BEGUN = re.compile(r"<!?(?:-|\[(?:C(?:D(?:A(?:T(?:A)?)?)?)?)?)?\Z")
_ENDS = {"<!--": ("-->",), "<![CDATA[": ("]]>",), "<?": ("?>",), "</": TO_BLANK_LINE}
_RAW_TEXTS = ("</pre>", "</script>", "</style>", "</textarea>")
_RAW_NAMES = frozenset({"pre", "script", "style", "textarea"})
_BRACKET = re.compile(r"(?<!\\)[\[\]]")


def begins_line(text: str, start: int, known: int | None = None) -> bool:
    """Whether a block may begin at `start`: before it on its line are only spaces and signs of lists and quotations.

    Args:
        known: where the text begins that may be looked at; else so much of it that matters.
    """
    known = max(0, start - CONTEXT) if known is None else known
    line = max(text.rfind("\n", known, start), text.rfind("\r", known, start)) + 1
    return _LEAD.fullmatch(text, max(line, known), start) is not None


def ends_of(name: str) -> tuple[str, ...]:
    """With what a block of HTML ends that an element begins."""
    return _RAW_TEXTS if name in _RAW_NAMES else TO_BLANK_LINE


def declared_at(text: str, start: int, final: bool) -> tuple[str, ...] | None:
    """With what a block ends that the comment, declaration or end of an element at `start` begins.

    Empty: nothing of that kind stands there. None: what follows will decide.
    """
    if not final and _BEGUN.match(text, start) is not None:
        return None
    declaration = _DECLARED.match(text, start)
    return () if declaration is None else _ENDS.get(declaration[0], (">",))


def name_at(text: str, start: int) -> str | None:
    """The name that the `:` at `start` may give to a target; "": it is too long to know, None: it gives none."""
    known = max(0, start - CONTEXT)
    begins = text.rfind("[", known, start - 1)
    while begins > known and text[begins - 1] == "\\":
        begins = text.rfind("[", known, begins - 1)
    if begins < 0:
        return "" if known else None
    name = text[begins + 1 : start - 1]
    return None if _BRACKET.search(name) is not None or not begins_line(text, begins, known) else same_name(name)


def same_name(text: str) -> str:
    """A name, or a text with names, so that equal ones are alike (https://spec.commonmark.org/0.31.2/#matches)."""
    return " ".join(text.casefold().split()).replace("[ ", "[").replace(" ]", "]")
