"""Makes inert what a client would fetch or run when it shows an answer: pictures, links, HTML.

A stage of an answer's way, after values were masked and before they are restored. Inert means that a space goes in
where Markdown or HTML begins (`![plan] (https://…`, `< script>`): a reader sees the same, and no program does anything.
What is released depends on the text alone, not on how it was cut.

Code, fenced or between backticks, is shown, not run, and left alone as long as it is certain that a reader of
CommonMark sees code there too.
"""

from __future__ import annotations

import re

from serving.guard.hosts import MAX_HEAD, Leads
from serving.guard.markup_rules import Rules
from serving.guard.outcome import GuardReport
from serving.guard.tags import is_harmless, tag_at

MAX_MARKUP_HELD = 600
"""Most characters that this stage holds back: a tag, or an address until its host is known."""

_MAX_SPACE = 32
_CONTEXT = 3
"""Characters before a sign on which it depends: a space and the signs of something emphasized."""
_ADDRESS = re.compile(
    rf"[:(]\s{{0,{_MAX_SPACE}}}(?:<(?P<quoted>[^<>\n]{{0,{MAX_HEAD}}})|(?P<bare>[^\s<>)]{{0,{MAX_HEAD}}}))"
)
_MAX_MARKS, _MAX_INFO = 16, 64
_FENCE = re.compile(rf"(?P<marks>`{{3,{_MAX_MARKS}}}|~{{3,{_MAX_MARKS}}})[^\n\r`~]{{0,{_MAX_INFO}}}\n")
_FENCE_BEGUN = re.compile(rf"(?:`{{3,{_MAX_MARKS}}}|~{{3,{_MAX_MARKS}}})[^\n\r`~]{{0,{_MAX_INFO}}}\Z")
_MARKS = re.compile(r"[`~]++")
_SPAN = re.compile(r"`{1,2}(?!`)")
_SPAN_ENDS = {size: re.compile(rf"(?<!`)`{{{size}}}(?!`)") for size in (1, 2)}
_MAX_SPAN = 300
"""Characters of code between backticks, on one line; longer ones are no longer certain."""
_MAX_LAST_LINE = 400
"""Characters of a line that could be the end of code; more of them, and it is no longer certain where code is."""
_URL_CHARS = r"[^\s<>\"'()\[\]{}|\\^`,;!]"
_URL = re.compile(rf"((?i:https?://|www\.)){_URL_CHARS}*+")
_URL_REST = re.compile(rf"{_URL_CHARS}*+")


class Markup:
    """Cleans one text that comes in pieces."""

    __slots__ = (
        "_calm",
        "_context",
        "_doubtful",
        "_fence",
        "_held",
        "_image",
        "_line",
        "_nested",
        "_report",
        "_room",
        "_rules",
        "_span",
        "_swallowing",
        "_trust",
    )

    def __init__(self, rules: Rules, report: GuardReport) -> None:
        self._rules = rules
        self._report = report
        self._calm = _NOT_CALM if rules.masks_links else _CALM
        self._held = ""
        self._context = ""  # the characters that came last
        self._image = False  # a picture may have begun in this paragraph, and its target not come
        self._nested = False  # what stands in it may take a `](` for its own
        self._swallowing = False  # the rest of an address
        self._fence = ""  # the marks of the code that we are in
        self._line: str | None = None  # in code: the line so far, while it may be the end of it
        self._span = 0  # the marks of the code between backticks that we may be in
        self._room = 0  # characters in which it has to end
        self._doubtful = False  # what came in this paragraph may take a backtick for its own
        self._trust = _TRUSTED if rules.settings.code == "allow" else _NEVER

    @property
    def held(self) -> int:
        return len(self._held)

    def feed(self, text: str) -> str:
        calm = self._calm
        if calm and not self._rules.may_act(text) and (calm == _CALM or not ("\n" in text or "|" in text)):
            if self._span:
                self._room -= len(text)
            self._context = text[-_CONTEXT:] if len(text) >= _CONTEXT else (self._context + text)[-_CONTEXT:]
            return text
        return self._advance(text, final=False)

    def finish(self) -> str:
        return self._advance("", final=True)

    def _advance(self, text: str, *, final: bool) -> str:
        raw = self._context + self._held + text
        place = len(self._context)
        self._held = ""
        out: list[str] = []
        while place < len(raw):
            if self._fence:
                place = self._in_code(raw, place, out)
                continue
            if self._swallowing:
                place = self._swallow(raw, place)
                continue
            after = (self._in_span if self._span else self._step)(raw, place, out, final)
            if after is None:
                break
            place = after
        else:
            self._context = raw[-_CONTEXT:]
        self._calm = self._how_calm()
        return "".join(out)

    def _how_calm(self) -> int:
        """What must be in a text, beside signs of markup, for what came before to matter."""
        if self._held or self._fence or self._swallowing or self._image or self._rules.masks_links:
            return _NOT_CALM
        if self._context[-1:] in ("]", "!"):
            return _NOT_CALM
        return _CALM_ON_LINE if self._span or self._doubtful or self._trust == _PARAGRAPH else _CALM

    def _step(self, raw: str, place: int, out: list[str], final: bool) -> int | None:
        """Release up to the next thing of interest and past it; None: the rest is held back."""
        rules = self._rules
        matters = self._image or self._doubtful or self._trust == _PARAGRAPH
        found = (rules.trigger if matters else rules.plain_trigger).search(raw, place)
        tail = None if final or self._rules.tail is None else self._rules.tail.search(raw, max(place, len(raw) - 8))
        if tail is not None and (found is None or tail.start() < found.start()):
            self._hold(raw, place, tail.start(), out)
            return None
        if found is None:
            out.append(raw[place:])
            return len(raw)
        start, kind = found.start(), found.lastgroup
        if kind in _NESTING and not (kind == "tag" and found.end() == len(raw)):
            self._nested = True
        if kind == "tag":
            end = self._tag(raw, start, out, place, final)
        elif kind == "target":
            end = self._target(raw, start, out, place, final)
        elif kind == "url":
            end = self._url(raw, start, out, place, final)
        elif kind == "image":
            self._nested = self._image
            self._image = True
            end = self._release(raw, place, found.end(), out)
        elif kind == "nest":
            self._doubtful = self._doubtful or raw[start - 1 : start + 1] == "]["
            end = self._release(raw, place, found.end(), out)
        elif kind == "gap":
            self._image = self._doubtful = False
            self._trust = _TRUSTED if self._trust == _PARAGRAPH else self._trust
            end = self._release(raw, place, found.end(), out)
        elif kind == "return":
            self._trust = _NEVER  # to some readers it ends a line
            end = self._release(raw, place, found.end(), out)
        else:
            end = self._fenced(raw, start, out, place, final)
        if end is None:
            self._hold(raw, place, start, out)
        return end

    def _release(self, raw: str, place: int, end: int, out: list[str]) -> int:
        out.append(raw[place:end])
        return end

    def _hold(self, raw: str, place: int, start: int, out: list[str]) -> None:
        out.append(raw[place:start])
        self._held = raw[start:]
        self._context = raw[max(0, start - _CONTEXT) : start]

    def _break(self, what: str, raw: str, place: int, at: int, out: list[str]) -> None:
        """Release up to `at` and put a space there."""
        out += (raw[place:at], " ")
        self._report.add(what, "inert")

    def _tag(self, raw: str, start: int, out: list[str], place: int, final: bool) -> int | None:
        if start + 1 == len(raw):
            return self._release(raw, place, start + 1, out) if final else None
        known = tag_at(raw, start, final)
        if known is None:
            return None
        end, plain = known
        tag = raw[start:end] if plain else raw[start : start + 16]
        fault = self._rules.tags.fault(tag, plain)
        if fault and not plain:
            loose = is_harmless(raw, start, final)
            if loose is None:
                return None
            fault = "" if loose else fault
        if fault:
            self._break(fault, raw, place, start + 1, out)
            return start + 1
        # In a block of HTML a fence is text: until its end code is not trusted.
        if self._trust != _NEVER:
            self._trust = _NEVER if tag[:4].lower() == "<pre" else _PARAGRAPH
        # Readers that show HTML as text find Markdown within a tag.
        return self._release(raw, place, start + 1, out)

    def _target(self, raw: str, start: int, out: list[str], place: int, final: bool) -> int | None:
        """What stands in `](target)` of a link or picture, or behind the `]:` that gives a name to one."""
        match = _ADDRESS.match(raw, start)
        assert match is not None
        quoted = match["quoted"]
        address = quoted if quoted is not None else match["bare"]
        hidden = not raw[start + 1 : match.end()].strip() and match.end() - start > _MAX_SPACE
        full = hidden or len(address) >= MAX_HEAD
        if match.end() == len(raw) and not final and not full:
            return None
        if fault := self._target_fault(address.strip(), raw[start], full):
            self._break(fault, raw, place, start, out)
            place = start
        self._image = self._image and (self._nested or raw[start] == ":")
        self._doubtful = True  # a target is read before code is
        return self._release(raw, place, start + 1, out)

    def _target_fault(self, address: str, sign: str, full: bool) -> str:
        settings = self._rules.settings
        leads = self._rules.hosts.leads(address)
        if not address and full:
            leads = Leads.ELSEWHERE  # hidden behind spaces
        # Where a target has a name, a picture anywhere may use it.
        if settings.images == "mask" and (self._image or sign == ":") and leads in (Leads.ELSEWHERE, Leads.SCRIPT):
            return "image"
        if leads is Leads.SCRIPT and settings.html == "mask":
            return "active_html"
        return "link" if leads is Leads.ELSEWHERE and settings.links == "mask" else ""

    def _url(self, raw: str, start: int, out: list[str], place: int, final: bool) -> int | None:
        match = _URL.match(raw, start)
        if match is None:
            if not final and len(raw) - start < len("https://"):
                return None
            return self._release(raw, place, start + 1, out)
        address = match.group()
        if match.end() == len(raw) and not final and len(address) < MAX_HEAD:
            return None
        whole = address if address[:1] in "hH" else f"https://{address}"
        if self._rules.hosts.leads(whole[:MAX_HEAD]) is not Leads.ELSEWHERE:
            return self._release(raw, place, match.end(1), out)
        out += (raw[place:start], "[LINK]")
        self._report.add("link", "mask")
        self._swallowing = True
        return start

    def _swallow(self, raw: str, place: int) -> int:
        match = _URL_REST.match(raw, place)
        assert match is not None
        self._swallowing = match.end() == len(raw)
        return match.end()

    def _fenced(self, raw: str, start: int, out: list[str], place: int, final: bool) -> int | None:
        """Marks of fenced code outside of it: such code begins, or it is no longer certain where any does."""
        marks = _MARKS.match(raw, start)
        assert marks is not None
        size = marks.end() - start
        if marks.end() == len(raw) and not final and size <= _MAX_MARKS:
            return None
        if size < len("```"):
            return self._release(raw, place, self._span_begun(raw, start) or marks.end(), out)
        if self._trust == _TRUSTED and (start == 0 or raw[start - 1] == "\n"):
            fence = _FENCE.match(raw, start)
            if fence is not None:
                self._fence, self._line = fence["marks"], ""
                return self._release(raw, place, fence.end(), out)
            if not final and _FENCE_BEGUN.match(raw, start) is not None:
                return None
        self._trust = _NEVER
        return self._release(raw, place, marks.end(), out)

    def _span_begun(self, raw: str, start: int) -> int:
        """The end of the marks where code between backticks begins for certain; 0 where none does."""
        marks = _SPAN.match(raw, start)
        before = raw[max(0, start - _CONTEXT) : start]
        lead = before.rstrip("(*_\"'")
        # Behind a space: no address takes the backtick for its own, and no backslash makes it a letter.
        stands_free = lead[-1:] in ("", " ", "\t", "\n") and (lead != "" or len(before) < _CONTEXT)
        if marks is None or not stands_free or self._doubtful or self._trust != _TRUSTED:
            self._doubtful = self._doubtful or "`" in raw[start : start + 2]
            return 0
        if self._rules.reads_spans:
            self._span, self._room = marks.end() - start, _MAX_SPAN
        return marks.end()

    def _in_span(self, raw: str, place: int, out: list[str], final: bool) -> int | None:
        """Code between backticks is left alone once it is certain that it ends, on its line and not in a table."""
        line_end = raw.find("\n", place)
        known = len(raw) if line_end < 0 else line_end
        limit = place + self._room
        end = _SPAN_ENDS[self._span].search(raw, place, min(known, limit) + len("```"))
        if end is not None and end.end() > min(known, limit):
            end = None
        code = raw[place : known if end is None else end.start()]
        certain = end is not None and (end.end() < len(raw) or final)
        if "|" in code or "\r" in code or (end is None and (final or line_end >= 0 or len(raw) > limit)):
            self._span, self._doubtful = 0, True
            return place
        if certain and end is not None:
            self._span = 0
            return self._release(raw, place, end.end(), out)
        # Up to something of interest it does not matter what this is.
        found = self._rules.trigger.search(raw, place)
        start = len(raw) if found is None else found.start()
        self._room -= start - place
        if found is None:
            return self._release(raw, place, start, out)
        self._hold(raw, place, start, out)
        return None

    def _in_code(self, raw: str, place: int, out: list[str]) -> int:
        """Code is released as it comes, to the end of its line."""
        end = raw.find("\n", place)
        line, end = (raw[place:], len(raw)) if end < 0 else (raw[place:end], end + 1)
        if "\r" in line:
            self._fence = ""
            return self._release(raw, place, place + line.index("\r"), out)
        if self._line is not None:
            self._line += line
            if len(self._line) > _MAX_LAST_LINE:
                self._fence, self._trust = "", _NEVER
                return self._release(raw, place, end, out)
            last = re.compile(rf" {{0,3}}{self._fence[0]}*+[ \t]*+").fullmatch(self._line)
            self._line = self._line if last is not None else None
        if raw[end - 1] == "\n":
            if self._line is not None and self._line.count(self._fence[0]) >= len(self._fence):
                self._fence = ""
            self._line = ""
        return self._release(raw, place, end, out)


_NESTING = frozenset({"tag", "fence", "nest"})
_NOT_CALM, _CALM_ON_LINE, _CALM = range(3)
"""Which texts pass without a look: none; those without line ends; all that hold no sign of markup."""
_TRUSTED, _PARAGRAPH, _NEVER = range(3)
"""Whether marks of fenced code are taken for it: yes; not in this paragraph; not in the rest of the text."""
