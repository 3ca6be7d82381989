"""A tag that is too long to be waited for: read attribute by attribute as it comes.

An attribute that fetches or runs something gets a space into its name, which makes two of it that do nothing.
"""

from __future__ import annotations

import re

from serving.guard.answer.tags import ATTRIBUTE, GAP, TagRules
from serving.guard.outcome import GuardReport

MAX_ATTRIBUTE = 320
"""Characters of an attribute that are waited for: a name, and an address until its host is known."""

_BLANK_LINE = re.compile(r"\n[ \t\r]*+\n")
_STYLE_LOADS = re.compile(
    r"url\((?!\s{0,8}[\"']?#)|@import|expression\(|image-set\(|image\(|src\(|behaviou?r|-moz-binding|[\\&]|/\*",
    re.IGNORECASE,
)
_STYLE_BEGUN = re.compile(r"(?:[A-Za-z@-]{1,14}+\(?\s{0,8}[\"']?|/)\Z")
_MAX_STYLE_BEGUN = 24
_QUOTATION = re.compile(r"(\n[ \t]*+)(>[ \t>]*+)")
_QUOTATION_BEGUN = re.compile(r"()([ \t]*+>[ \t>]*+)")
_SIGN = "\v"
"""Stands for a quotation's sign meanwhile: space within a tag, and taken out of answers before they come here."""
_BEGUN = re.compile(r"(=?[^\s/>=]*+)(?:\s*+=\s*+([\"']?))?", re.ASCII)


class LongTag:
    """Takes the text behind a tag's `<` in pieces.

    A `>` at the beginning of a line may be a quotation's, and does not end the tag. What begins like a tag within may
    be one to other readers: its name counts, too.
    """

    __slots__ = (
        "_after_line",
        "_at_line_start",
        "_ends_at_blank",
        "_held",
        "_in_html",
        "_in_style",
        "_inner",
        "_is_over",
        "_name",
        "_quote",
        "_report",
        "_rules",
    )

    def __init__(self, rules: TagRules, report: GuardReport, name: str, *, in_html: bool, ends_at_blank: bool) -> None:
        self._rules = rules
        self._report = report
        self._name = self._inner = name
        self._in_html = in_html
        self._ends_at_blank = ends_at_blank
        self._held = ""
        self._quote = ""  # of the value that we are in
        self._in_style = False  # and that is style
        self._after_line = False  # only spaces have come since a line ended
        self._at_line_start = False  # the same of all that came
        self._is_over = False

    @property
    def held(self) -> int:
        return len(self._held)

    def feed(self, text: str, final: bool) -> tuple[str, str | None]:
        """Take the next piece; `final`: nothing follows.

        Returns:
            what may be released of the tag now, and what stands behind it; None while it goes on.
        """
        raw, self._held = self._held + self._without_quotation(text), ""
        out: list[str] = []
        place = 0
        while place < len(raw) and not self._is_over:
            end = self._in_value(raw, place, out, final) if self._quote else self._between(raw, place, out, final)
            if end is None:
                self._held = raw[place:]
                break
            place = end
        rest = raw[place:].replace(_SIGN, ">") if self._is_over else None
        return "".join(out).replace(_SIGN, ">"), rest

    def _without_quotation(self, text: str) -> str:
        """The text with something else for signs of quotations."""
        begun = _QUOTATION_BEGUN.match(text) if self._at_line_start else None
        text = _as_signs(begun) + text[begun.end() :] if begun is not None else text
        text = _QUOTATION.sub(_as_signs, text)
        line = text.rpartition("\n")
        self._at_line_start = (bool(line[1]) or self._at_line_start) and not line[2].strip()
        return text

    def _between(self, raw: str, place: int, out: list[str], final: bool) -> int | None:
        gap = GAP.match(raw, place)
        start = place if gap is None else gap.end()
        # What is HTML goes on behind an empty line, where another block of it follows.
        ends = self._is_blank(raw, place, start) > 0 and not self._in_html
        self._is_over = ends or raw.startswith(">", start)
        if self._is_over or start > place:
            out.append(raw[place:start])
            return start
        return self._attribute(raw, start, out, final)

    def _attribute(self, raw: str, start: int, out: list[str], final: bool) -> int | None:
        blank = _BLANK_LINE.search(raw, start, start + MAX_ATTRIBUTE) if self._ends_at_blank else None
        stop = min(len(raw), start + MAX_ATTRIBUTE) if blank is None else blank.start()
        attribute = ATTRIBUTE.match(raw, start, stop)
        may_go_on = blank is None and not final and len(raw) < start + MAX_ATTRIBUTE
        if may_go_on and (attribute is None or attribute.end() == len(raw)):
            return None
        self._after_line = False
        begun = _BEGUN.match(raw, start, stop)
        assert begun is not None
        name = begun[1].lower()
        is_whole = attribute is not None and attribute.end() < start + MAX_ATTRIBUTE
        self._in_style = name == "style" and attribute is None and bool(begun[2])
        # Of an address that is too long, its beginning says where it leads.
        value = raw[begun.end() : stop] if attribute is None else attribute[2] or attribute[3] or attribute[4] or ""
        if "<" in name:
            self._inner = name.rpartition("<")[2]
        fault = self._rules.attribute_fault(self._name, name, value, is_whole=is_whole)
        if not fault and self._inner != self._name:
            fault = self._rules.attribute_fault(self._inner, name, value, is_whole=is_whole)
        if fault and not self._in_style:
            out += (raw[start], " ")
            self._report.add(fault, "inert")
            return start + 1
        end = begun.end() if attribute is None else attribute.end()
        self._quote = "" if attribute is not None else begun[2] or ""
        end = max(end, start + 1)
        out.append(raw[start:end])
        return end

    def _in_value(self, raw: str, place: int, out: list[str], final: bool) -> int | None:
        closing = raw.find(self._quote, place)
        end = len(raw) if closing < 0 else closing
        loads = None
        if self._in_style:
            begun = _STYLE_BEGUN.search(raw, max(place, end - _MAX_STYLE_BEGUN)) if closing < 0 and not final else None
            end = end if begun is None else begun.start()
            loads = _STYLE_LOADS.search(raw, place, end)
            end = end if loads is None else loads.start() + 1
            if begun is not None and end == place:
                return None
        blank = self._is_blank(raw, place, end)
        if blank:
            # The block ends and the value does not: what Markdown becomes would go on with it.
            out.append(raw[place : blank - 1] + (f"{self._quote}>" if self._in_html else ""))
            if self._in_html:
                self._report.add("active_html", "inert")
            self._is_over = True
            return blank - 1
        out.append(raw[place:end])
        if loads is not None:
            out.append(" ")
            self._report.add("active_html", "inert")
        elif end == closing:
            self._quote = ""
            out.append(raw[end])
            return end + 1
        return end

    def _is_blank(self, raw: str, place: int, stop: int) -> int:
        """Where the line end behind an empty line ends, if that ends the tag and stands before `stop`; else 0."""
        while self._ends_at_blank and (line := raw.find("\n", place, stop)) >= 0:
            if self._after_line and not raw[place:line].strip():
                return line + 1
            self._after_line = True
            place = line + 1
        self._after_line = self._after_line and not raw[place:stop].strip()
        return 0


def _as_signs(match: re.Match[str]) -> str:
    return match[1] + match[2].replace(">", _SIGN)
