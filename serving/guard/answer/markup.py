"""Makes inert what a client would fetch or run when it shows an answer: pictures, links, HTML.

A stage of an answer's way, after values were masked and before they are restored. Inert means that a space goes in
where Markdown or HTML begins (`![plan] (https://…`, `< script>`): a reader sees the same, and no program does anything.
What is released depends on the text alone, not on how it was cut.

Code, fenced or between backticks, is shown, not run, and left alone as long as it is certain that a reader of
CommonMark sees code there too.
"""

from __future__ import annotations

import re

from serving.guard.answer.hosts import MAX_HEAD, Destination
from serving.guard.answer.html_names import BLOCKS
from serving.guard.answer.long_tag import MAX_ATTRIBUTE, LongTag
from serving.guard.answer.markdown import CONTEXT, TO_BLANK_LINE, begins_line, declared_at, ends_of, name_at, same_name
from serving.guard.answer.tags import MAX_TAG, Rules
from serving.guard.outcome import GuardReport

MAX_MARKUP_HELD = 600 + MAX_ATTRIBUTE
"""Most characters that this stage holds back: a tag, or an address until its host is known, in a tag that is longer."""

_MAX_SPACE = 32
_KEPT = CONTEXT + 1
"""Characters that are kept of what came: by one more it is known whether there was more."""
_SPAN_CONTEXT = 3
"""Of these, what code between backticks depends on: a space and the signs of something emphasized."""
_QUOTED_LINES = re.compile(r"(\n[ \t]*+)(>[ \t>]*+)")
_TAG_NAME = re.compile(r"<([A-Za-z][^\s/>]*+)", re.ASCII)
_MAX_PICTURES = 4000
"""Characters of paragraphs with pictures that are kept, to know which names pictures have."""
_ADDRESS = re.compile(
    rf"[:(]\s{{0,{_MAX_SPACE}}}(?:<(?P<quoted>[^<>\n]{{0,{MAX_HEAD}}})|(?P<bare>[^\s<>)]{{0,{MAX_HEAD}}}))"
)
_MAX_MARKS, _MAX_INFO, _MAX_INDENT = 16, 64, 3
_FENCE = re.compile(rf"(?P<marks>`{{3,{_MAX_MARKS}}}|~{{3,{_MAX_MARKS}}})[^\n\r`~|<]{{0,{_MAX_INFO}}}\n")
_FENCE_BEGUN = re.compile(rf"(?:`{{3,{_MAX_MARKS}}}|~{{3,{_MAX_MARKS}}})[^\n\r`~|<]{{0,{_MAX_INFO}}}\Z")
_MARKS = re.compile(r"[`~]++")
_LAST_LINES = {sign: re.compile(rf" *+{sign}*+[ \t]*+") for sign in "`~"}
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
        "_backticks_ambiguous",
        "_code_span",
        "_code_span_left",
        "_context",
        "_defined",
        "_dropping_url",
        "_fence",
        "_fences_unambiguous",
        "_held",
        "_html_block",
        "_image",
        "_indent",
        "_line",
        "_long",
        "_names",
        "_nested",
        "_pictures",
        "_report",
        "_rules",
        "_skips",
    )

    def __init__(self, rules: Rules, report: GuardReport) -> None:
        self._rules = rules
        self._report = report
        self._skips = _SCAN_ALL if rules.masks_links else _SKIP_PLAIN
        self._held = ""
        self._context = ""  # the characters that came last
        self._image = False  # a picture may have begun in this paragraph, and its target not come
        self._nested = False  # what stands in it may take a `](` for its own
        self._dropping_url = False  # the rest of an address
        self._fence = ""  # the marks of the code that we are in
        self._indent = 0  # the spaces before them
        self._line: str | None = None  # in code: the line so far, while it may be the end of it
        self._code_span = 0  # the marks of the code between backticks that we may be in
        self._code_span_left = 0  # characters in which it has to end
        self._backticks_ambiguous = False  # what came in this paragraph may take a backtick for its own
        self._fences_unambiguous = not rules.reads_html  # marks of fenced code are taken for it by every reader
        self._html_block: tuple[str, ...] = ()  # we may be in a block of HTML, which ends with one of these
        self._long: LongTag | None = None  # the tag that we are in, and that is not waited for
        self._pictures = ""  # the paragraphs in which pictures have begun: which names they have
        self._names: str | None = None  # the same, for comparing names
        self._defined = False  # a name was given to a target elsewhere, which no picture had then

    @property
    def held(self) -> int:
        return len(self._held) + (0 if self._long is None else self._long.held)

    @property
    def at_rest(self) -> bool:
        return self._skips == _SKIP_PLAIN

    def feed(self, text: str) -> str:
        skips = self._skips
        if skips and not self._rules.may_act(text) and (skips == _SKIP_PLAIN or not ("\n" in text or "|" in text)):
            if self._code_span:
                self._code_span_left -= len(text)
            self._context = text[-_KEPT:] if len(text) >= _KEPT else (self._context + text)[-_KEPT:]
            return text
        return self._advance(text, final=False)

    def finish(self) -> str:
        return self._advance("", final=True)

    def _advance(self, text: str, *, final: bool) -> str:
        out: list[str] = []
        rest: str | None = text
        while rest is not None:
            rest = self._pass(rest, out, final)
        self._skips = self._may_skip()
        return "".join(out)

    def _pass(self, text: str, out: list[str], final: bool) -> str | None:
        """Look at a text as far as the tag goes that we are in; returns what stands behind it, None if nothing may."""
        text, rest = self._split(text, final)
        raw = self._context + self._held + text
        position = len(self._context)
        self._held = ""
        while position < len(raw):
            if self._fence:
                position = self._in_code(raw, position, out)
                continue
            if self._dropping_url:
                position = self._drop_url(raw, position)
                continue
            was_long = self._long
            ends = final and rest is None
            after = (self._in_code_span if self._code_span else self._step)(raw, position, out, ends)
            if after is None:
                break
            position = after
            if self._long is not was_long:
                text, rest = self._split(raw[position:], final)
                raw = raw[:position] + text
        else:
            self._context = raw[-_KEPT:]
        if rest is not None:
            self._long = None
        return rest

    def _split(self, text: str, final: bool) -> tuple[str, str | None]:
        """The text within the tag that we are in, as far as it may be looked at, and what stands behind the tag."""
        return (text, None) if self._long is None else self._long.feed(text, final)

    def _may_skip(self) -> int:
        """Which of the next texts may pass unscanned, as far as what came before is concerned."""
        if self._held or self._fence or self._dropping_url or self._image or self._long or self._rules.masks_links:
            return _SCAN_ALL
        if self._context[-1:] in ("]", "!"):
            return _SCAN_ALL
        if self._html_block not in ((), TO_BLANK_LINE):
            return _SCAN_ALL
        return _SKIP_WITHIN_LINE if self._code_span or self._backticks_ambiguous or self._html_block else _SKIP_PLAIN

    def _step(self, raw: str, position: int, out: list[str], final: bool) -> int | None:
        """Release up to the next thing of interest and past it; None: the rest is held back."""
        rules = self._rules
        matters = self._image or self._backticks_ambiguous or self._html_block
        trigger = (rules.trigger if matters else rules.plain_trigger).search(raw, position)
        tail = None if final or self._rules.tail is None else self._rules.tail.search(raw, max(position, len(raw) - 8))
        if tail is not None and (trigger is None or tail.start() < trigger.start()):
            self._hold(raw, position, tail.start(), out)
            return None
        if trigger is None:
            return self._release(raw, position, len(raw), out)
        start, kind = trigger.start(), trigger.lastgroup
        if kind in _NESTING and not (kind == "tag" and trigger.end() == len(raw)):
            self._nested = True
        decide = _DECIDED.get(kind or "")
        if decide is None:
            return self._note(kind or "", raw, start, trigger.end(), out, position)
        end = decide(self, raw, start, out, position, final)
        if end is None:
            self._hold(raw, position, start, out)
        return end

    def _note(self, kind: str, raw: str, start: int, end: int, out: list[str], position: int) -> int:
        """What says how the text that follows is read."""
        if kind == "image":
            return self._picture(raw, end, out, position)
        self._release(raw, position, end, out)
        if kind == "nest":
            self._backticks_ambiguous = self._backticks_ambiguous or raw[start - 1 : start + 1] == "]["
        elif kind == "gap":
            self._image = self._backticks_ambiguous = False
            self._html_block = () if self._html_block == TO_BLANK_LINE else self._html_block
        elif kind == "end":
            if self._html_block and raw[max(0, end - len("</textarea>")) : end].lower().endswith(self._html_block):
                self._html_block = TO_BLANK_LINE
        else:
            self._fences_unambiguous = False  # a return: to some readers it ends a line
        return end

    def _release(self, raw: str, position: int, end: int, out: list[str]) -> int:
        text = raw[position:end]
        out.append(text)
        if self._image and len(self._pictures) <= _MAX_PICTURES:
            self._pictures += text
            self._names = None
        return end

    def _hold(self, raw: str, position: int, start: int, out: list[str]) -> None:
        self._release(raw, position, start, out)
        self._held = raw[start:]
        self._context = raw[max(0, start - _KEPT) : start]

    def _break(self, what: str, raw: str, position: int, at: int, out: list[str]) -> None:
        """Release up to `at` and put a space there."""
        self._release(raw, position, at, out)
        out.append(" ")
        self._report.add(what, "inert")

    def _tag(self, raw: str, start: int, out: list[str], position: int, final: bool) -> int | None:
        sign = raw[start + 1 : start + 2]
        if not sign:
            return self._release(raw, position, start + 1, out) if final else None
        if not sign.isalpha():
            return self._declared(raw, start, out, position, final)
        begins = not self._html_block and begins_line(raw, start)
        named = _TAG_NAME.match(raw, start)
        name = named[1].lower() if named is not None else ""
        reads_html = self._rules.reads_html
        in_html = reads_html or bool(self._html_block) or (begins and name in BLOCKS)
        ends_at_blank = not reads_html and self._html_block in ((), TO_BLANK_LINE)
        verdict = self._rules.tags.judge(raw, start, final, in_html=in_html, ends_at_blank=ends_at_blank)
        if verdict is None:
            return None
        fault = verdict.fault or ("active_html" if verdict.goes_on and self._long is not None else "")
        goes_on = verdict.goes_on
        if not fault and _QUOTED_LINES.search(raw, start, verdict.end) is not None:
            # A quotation's sign at the beginning of a line is none of the tag's, and ends it for other readers.
            within = _QUOTED_LINES.sub(_as_spaces, raw[start : start + MAX_TAG])
            other = self._rules.tags.judge(within, 0, final, in_html=in_html, ends_at_blank=ends_at_blank)
            if other is None:
                return None
            fault, goes_on = other.fault, goes_on or other.goes_on
        if fault:
            self._break(fault, raw, position, start + 1, out)
            return start + 1
        if begins and (name in BLOCKS or verdict.is_tag):
            self._html_block = ends_of(name)
        if verdict.is_tag:
            self._backticks_ambiguous = self._backticks_ambiguous or verdict.goes_on or "`" in raw[start : verdict.end]
        if goes_on and self._long is None:
            self._long = LongTag(self._rules.tags, self._report, name, in_html=in_html, ends_at_blank=ends_at_blank)
        # Readers that show HTML as text find Markdown within a tag.
        return self._release(raw, position, start + 1, out)

    def _declared(self, raw: str, start: int, out: list[str], position: int, final: bool) -> int | None:
        """A comment, a declaration, the end of an element: nothing of it is fetched, but it may take marks of code."""
        ends = declared_at(raw, start, final)
        if ends is None:
            return None
        if ends and not self._html_block and begins_line(raw, start):
            self._html_block = ends
        self._backticks_ambiguous = self._backticks_ambiguous or (bool(ends) and raw[start + 1] != "/")
        return self._release(raw, position, start + 1, out)

    def _picture(self, raw: str, end: int, out: list[str], position: int) -> int:
        self._nested = self._image
        if self._defined and self._rules.settings.images == "mask":
            self._break("image", raw, position, end - 1, out)
            return self._release(raw, end - 1, end, out)
        self._release(raw, position, end, out)
        if not self._image:
            self._image = True
            self._pictures += "!["
        return end

    def _target(self, raw: str, start: int, out: list[str], position: int, final: bool) -> int | None:
        """What stands in `](target)` of a link or picture, or behind the `]:` that gives a name to one."""
        name = name_at(raw, start) if raw[start] == ":" else ""
        if name is None:
            return self._release(raw, position, start + 1, out)
        match = _ADDRESS.match(raw, start)
        assert match is not None
        quoted = match["quoted"]
        address = quoted if quoted is not None else match["bare"]
        hidden = not raw[start + 1 : match.end()].strip() and match.end() - start > _MAX_SPACE
        full = hidden or len(address) >= MAX_HEAD
        if match.end() == len(raw) and not final and not full:
            return None
        shows = self._image if raw[start] == "(" else self._has_picture(name, raw[position:start])
        if fault := self._target_fault(address.strip(), shows, full):
            self._break(fault, raw, position, start, out)
            position = start
        elif raw[start] == ":" and self._rules.hosts.leads(address.strip()) is Destination.ELSEWHERE:
            self._defined = True
        end = self._release(raw, position, start + 1, out)
        self._image = self._image and (self._nested or raw[start] == ":")
        self._backticks_ambiguous = True  # a target is read before code is
        return end

    def _target_fault(self, address: str, shows: bool, full: bool) -> str:
        settings = self._rules.settings
        leads = self._rules.hosts.leads(address)
        if not address and full:
            leads = Destination.ELSEWHERE  # hidden behind spaces
        if settings.images == "mask" and shows and leads in (Destination.ELSEWHERE, Destination.SCRIPT):
            return "image"
        if leads is Destination.SCRIPT and settings.html == "mask":
            return "active_html"
        return "link" if leads is Destination.ELSEWHERE and settings.links == "mask" else ""

    def _has_picture(self, name: str, newest: str) -> bool:
        """Whether a picture that came before may have this name; `newest`: what stands before it, not kept yet."""
        pictures = self._pictures + newest if self._image else self._pictures
        if not name or len(pictures) > _MAX_PICTURES:
            return bool(pictures)
        if self._image:
            return f"[{name}]" in same_name(pictures)
        if self._names is None:
            self._names = same_name(pictures)
        return f"[{name}]" in self._names

    def _url(self, raw: str, start: int, out: list[str], position: int, final: bool) -> int | None:
        match = _URL.match(raw, start)
        if match is None:
            if not final and len(raw) - start < len("https://"):
                return None
            return self._release(raw, position, start + 1, out)
        address = match.group()
        if match.end() == len(raw) and not final and len(address) < MAX_HEAD:
            return None
        whole = address if address[:1] in "hH" else f"https://{address}"
        if self._rules.hosts.leads(whole[:MAX_HEAD]) is not Destination.ELSEWHERE:
            return self._release(raw, position, match.end(1), out)
        out += (raw[position:start], "[LINK]")
        self._report.add("link", "mask")
        self._dropping_url = True
        return start

    def _drop_url(self, raw: str, position: int) -> int:
        match = _URL_REST.match(raw, position)
        assert match is not None
        self._dropping_url = match.end() == len(raw)
        return match.end()

    def _fenced(self, raw: str, start: int, out: list[str], position: int, final: bool) -> int | None:
        """Marks of fenced code outside of it: such code begins, or it is no longer certain where any does."""
        marks = _MARKS.match(raw, start)
        assert marks is not None
        size = marks.end() - start
        if marks.end() == len(raw) and not final and size <= _MAX_MARKS:
            return None
        if size < len("```"):
            return self._release(raw, position, self._span_begun(raw, start) or marks.end(), out)
        known = max(0, start - CONTEXT)
        line = max(raw.rfind("\n", known, start) + 1, known)
        lead = raw[line:start]
        if not begins_line(raw, start):
            self._backticks_ambiguous = True  # within a line such marks begin no fence
            return self._release(raw, position, marks.end(), out)
        if self._fences_unambiguous and not self._html_block and len(lead) <= _MAX_INDENT and not lead.strip(" "):
            fence = _FENCE.match(raw, start)
            if fence is not None:
                self._fence, self._line, self._indent = fence["marks"], "", len(lead)
                return self._release(raw, position, fence.end(), out)
            if not final and _FENCE_BEGUN.match(raw, start) is not None:
                return None
        self._fences_unambiguous = False
        return self._release(raw, position, marks.end(), out)

    def _span_begun(self, raw: str, start: int) -> int:
        """The end of the marks where code between backticks begins for certain; 0 where none does."""
        marks = _SPAN.match(raw, start)
        before = raw[max(0, start - _SPAN_CONTEXT) : start]
        lead = before.rstrip("(*_\"'")
        # Behind a space: no address takes the backtick for its own, and no backslash makes it a letter.
        stands_free = lead[-1:] in ("", " ", "\t", "\n") and (lead != "" or len(before) < _SPAN_CONTEXT)
        ambiguous = self._backticks_ambiguous or self._html_block or not self._fences_unambiguous
        if marks is None or not stands_free or ambiguous:
            self._backticks_ambiguous = self._backticks_ambiguous or "`" in raw[start : start + 2]
            return 0
        if self._rules.reads_spans:
            self._code_span, self._code_span_left = marks.end() - start, _MAX_SPAN
        return marks.end()

    def _in_code_span(self, raw: str, position: int, out: list[str], final: bool) -> int | None:
        """Code between backticks is left alone once it is certain that it ends, on its line and not in a table."""
        line_end = raw.find("\n", position)
        known = len(raw) if line_end < 0 else line_end
        limit = position + self._code_span_left
        end = _SPAN_ENDS[self._code_span].search(raw, position, min(known, limit) + len("```"))
        if end is not None and end.end() > min(known, limit):
            end = None
        code = raw[position : known if end is None else end.start()]
        certain = end is not None and (end.end() < len(raw) or final)
        if "|" in code or "\r" in code or (end is None and (final or line_end >= 0 or len(raw) > limit)):
            self._code_span, self._backticks_ambiguous = 0, True
            return position
        if certain and end is not None:
            self._code_span = 0
            return self._release(raw, position, end.end(), out)
        # Up to something of interest it does not matter what this is.
        trigger = self._rules.trigger.search(raw, position)
        start = len(raw) if trigger is None else trigger.start()
        self._code_span_left -= start - position
        if trigger is None:
            return self._release(raw, position, start, out)
        self._hold(raw, position, start, out)
        return None

    def _in_code(self, raw: str, position: int, out: list[str]) -> int:
        """Code is released as it comes, to the end of its line."""
        stop = raw.find("\n", position)
        end = len(raw) if stop < 0 else stop
        turn = raw.find("\r", position, end)
        end = end if turn < 0 else turn
        if self._line is not None:
            before = len(self._line)
            self._line += raw[position:end]
            indent = len(self._line) - len(self._line.lstrip(" "))
            if indent < min(self._indent, len(self._line)):
                # It is in no list item any more, and then in no code of one either.
                self._fence, self._fences_unambiguous = "", False
                return self._release(raw, position, position + max(0, indent - before), out)
            if _LAST_LINES[self._fence[0]].fullmatch(self._line, 0, _MAX_LAST_LINE + 1) is None:
                self._line = None
            elif len(self._line) > _MAX_LAST_LINE:
                self._fence, self._fences_unambiguous = "", False
                return self._release(raw, position, position + _MAX_LAST_LINE + 1 - before, out)
        if turn >= 0:
            self._fence = ""
            return self._release(raw, position, turn, out)
        if stop < 0:
            return self._release(raw, position, end, out)
        if self._line is not None and self._line.count(self._fence[0]) >= len(self._fence):
            # Further in, a reader that sees no list takes the line for code, and one that does for the end.
            is_near = len(self._line) - len(self._line.lstrip(" ")) <= _MAX_INDENT
            self._fences_unambiguous = self._fences_unambiguous and (is_near or not self._indent)
            self._fence = "" if is_near or self._indent else self._fence
        self._line = ""
        return self._release(raw, position, stop + 1, out)


def _as_spaces(match: re.Match[str]) -> str:
    return match[1] + " " * len(match[2])


_NESTING = frozenset({"tag", "fence", "nest"})
_DECIDED = {"tag": Markup._tag, "target": Markup._target, "url": Markup._url, "fence": Markup._fenced}
"""What may have to be waited for."""
_SCAN_ALL, _SKIP_WITHIN_LINE, _SKIP_PLAIN = range(3)
"""Which texts pass unscanned: none; those without line ends; all without characters of markup."""
