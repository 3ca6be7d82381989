"""HTML tags in answers: which may stay.

What begins like a tag is read as a browser reads it (https://html.spec.whatwg.org/multipage/parsing.html#tokenization)
from that place on, whatever stood before: so comments, quotations and other tags hide nothing. It matters where a
reader of Markdown passes it on as HTML (https://spec.commonmark.org/0.31.2/#raw-html, #html-blocks); since not all
readers are that strict, also where it only has a name and an end. All else is text, and stays: `a<b;`, `<-chan`.
"""

from __future__ import annotations

import re
from html import unescape
from typing import NamedTuple

from serving.guard.answer.hosts import MAX_HEAD, Destination, Hosts
from serving.guard.answer.html_names import (
    ACTIVE,
    CALM_EQUIVALENTS,
    FOLLOWED,
    FRAMES,
    LISTS,
    NO_HANDLERS,
    OWNERS,
    PAINTS,
)
from serving.guard.settings import LinkSettings

MAX_TAG = 512
"""Characters that are waited for until a tag ends."""

_NAME = re.compile(r"<([A-Za-z][^\s/>]*+)", re.ASCII)
GAP = re.compile(r"[\s/]*+", re.ASCII)
_ANY_ATTRIBUTE = r"(=?[^\s/>=]*+)(?:\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|(?![\"'])([^\s>]*+))|(?!\s*+=))"
ATTRIBUTE = re.compile(_ANY_ATTRIBUTE, re.ASCII)
_UNGROUPED = re.sub(r"\((?=[=\[])", "(?:", _ANY_ATTRIBUTE)
_TAG = re.compile(rf"<[A-Za-z][^\s/>]*+(?>(?:[\s/]++|(?![\s/>]){_UNGROUPED})*)", re.ASCII)
_NAME_WITH_VALUE = re.compile(r"([\w:-]++)\s*+=", re.ASCII)
_MATTERS = frozenset({*OWNERS, *PAINTS, "style", "srcdoc", "http-equiv", "attributename", "xlink:href"})
"""Attributes that may be fetched or run, besides handlers."""
_PLAIN_ATTRIBUTE = r"\s++[A-Za-z_:][\w.:-]*+(?:\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'|[^\s\"'=<>`]++))?"
_PLAIN_TAG = re.compile(rf"<[A-Za-z][A-Za-z0-9-]*+(?>(?:{_PLAIN_ATTRIBUTE})*)\s*+/?>", re.ASCII)
_PLAIN_BEGUN = re.compile(
    rf"<[A-Za-z][A-Za-z0-9-]*+(?>(?:{_PLAIN_ATTRIBUTE}(?!\s*=))*)"
    r"(?:\s*+/?|\s++[A-Za-z_:][\w.:-]*+\s*+=\s*+(?:\"[^\"]*+|'[^']*+)?)\Z",
    re.ASCII,
)
_AUTOLINK = re.compile(r"<([A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*+)>", re.ASCII)
_AUTOLINK_BEGUN = re.compile(r"<[A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*+\Z", re.ASCII)
_BLANK_LINE = re.compile(r"\n[ \t\r]*+\n")

_ANIMATES = frozenset({"href", "xlink:href"})
_STYLE_LOADS = re.compile(
    r"url\((?!\s*[\"']?#)|@import|expression\(|image-set\(|image\(|src\(|behaviou?r\s*:|-moz-binding|\\|/\*",
    re.IGNORECASE,
)
_PAINT_LOADS = re.compile(r"url\((?!\s*[\"']?#)|\\|image-set\(", re.IGNORECASE)
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*+")
_NAMED = re.compile(r"\{[\w$.]+\}")
_HANDLER = re.compile(r"on[a-z]{3,}")


class Verdict(NamedTuple):
    """What becomes of what begins like a tag."""

    fault: str
    """What it is counted as when it may not stay: `active_html`, `image`, `link`; "" when it may."""
    end: int
    is_tag: bool
    """Whether a reader of Markdown may take it for one."""
    goes_on: bool = False
    """It has not ended after `MAX_TAG` characters, and does nothing so far."""


_NO_LINK = Verdict("", 0, False)


class _Tag(NamedTuple):
    name: str
    attributes: list[tuple[str, str]]
    end: int
    is_complete: bool
    in_quotes: bool = False


def _matters(name: str) -> bool:
    name = name.lower()
    return name in _MATTERS or name.startswith("on")


def _read(text: str, start: int, end: int) -> _Tag:
    """The tag at `start` as a browser reads it, of the text before `end`; without attributes if none matters."""
    named = _NAME.match(text, start, end)
    assert named is not None
    if text.find("=", start, end) < 0 or not any(map(_matters, _NAME_WITH_VALUE.findall(text, start, end))):
        whole = _TAG.match(text, start, end)
        place = named.end() if whole is None else whole.end()
        if text.startswith(">", place, end):
            return _Tag(named[1].lower(), [], place + 1, True)
        return _Tag(named[1].lower(), [], place, False, place < end)
    attributes: list[tuple[str, str]] = []
    place = named.end()
    while True:
        gap = GAP.match(text, place, end)
        place = gap.end() if gap is not None else place
        if place >= end:
            return _Tag(named[1].lower(), attributes, end, False)
        if text[place] == ">":
            return _Tag(named[1].lower(), attributes, place + 1, True)
        attribute = ATTRIBUTE.match(text, place, end)
        if attribute is None:
            return _Tag(named[1].lower(), attributes, end, False, True)
        value = attribute[2] or attribute[3] or attribute[4] or ""
        attributes.append((attribute[1].lower(), value))
        place = attribute.end()


def _does_nothing(handler: str) -> bool:
    """Whether a handler of JSX, read as one of HTML, leaves a block open, which is no program, or names something."""
    return handler.startswith("{") and ("}" not in handler or _NAMED.fullmatch(handler) is not None)


class TagRules:
    """What is wrong with a tag."""

    def __init__(self, settings: LinkSettings, hosts: Hosts) -> None:
        self._settings = settings
        self._hosts = hosts

    def judge(self, text: str, start: int, final: bool, *, in_html: bool, ends_at_blank: bool = True) -> Verdict | None:
        """What becomes of the `<` and letter at `start`; None: what follows will decide.

        Args:
            in_html: whether a reader of Markdown may pass all of it on as HTML, whatever its form.
            ends_at_blank: whether that ends at the next blank line.
        """
        window = start + MAX_TAG
        end = min(len(text), window)
        named = _NAME.match(text, start, end)
        assert named is not None
        may_go_on = not final and len(text) < window
        if named.end() == len(text) and may_go_on:
            return None
        plain = _PLAIN_TAG.match(text, start, end)
        if plain is not None and not (ends_at_blank and _BLANK_LINE.search(text, start, plain.end())):
            return Verdict(self._fault(_read(text, start, plain.end())), plain.end(), True)
        if not in_html and (linked := self._autolink(text, start, may_go_on)) is not _NO_LINK:
            return linked
        blank = _BLANK_LINE.search(text, start, end) if ends_at_blank else None
        stop = end if blank is None else blank.start()
        could = _PLAIN_BEGUN.match(text, start, stop) is not None
        if not (could or in_html or _PLAIN_NAME.fullmatch(named[1]) is not None):
            return Verdict("", start + 1, False)
        if may_go_on and blank is None and text.find(">", start, stop) < 0:
            return None
        if not (could or in_html) and text.find(">", start, stop) < 0:
            return Verdict("", start + 1, False)
        tag = _read(text, start, stop)
        if tag.is_complete:
            return Verdict(self._fault(tag), tag.end, in_html)
        if may_go_on and blank is None:
            return None
        if not (in_html or (could and len(text) >= window and blank is None)):
            return Verdict("", start + 1, False)  # a reader of Markdown takes it for text
        fault = self._fault(tag)
        is_long = blank is None and len(text) >= window
        if tag.in_quotes and blank is not None and self._masks_html:
            fault = "active_html"  # a value that does not end goes on in what Markdown is made into
        return Verdict(fault, stop, True, goes_on=not fault and (is_long or blank is not None))

    def _autolink(self, text: str, start: int, may_go_on: bool) -> Verdict | None:
        """An address in angle brackets (https://spec.commonmark.org/0.31.2/#autolinks); None: it may go on."""
        link = _AUTOLINK.match(text, start)
        if link is None or link.end() - start > MAX_TAG:
            return None if may_go_on and _AUTOLINK_BEGUN.match(text, start) is not None else _NO_LINK
        runs = self._masks_html and self._hosts.leads(link[1][:MAX_HEAD]) is Destination.SCRIPT
        return Verdict("active_html" if runs else "", link.end(), True)

    @property
    def _masks_html(self) -> bool:
        return self._settings.html == "mask"

    def _fault(self, tag: _Tag) -> str:
        if self._masks_html and tag.name in ACTIVE:
            return "active_html"
        for name, value in tag.attributes:
            if fault := self.attribute_fault(tag.name, name, value):
                return fault
        return ""

    def attribute_fault(self, tag: str, name: str, value: str, *, is_whole: bool = True) -> str:
        """What an attribute is counted as when it may not stay; all in lower case but the value.

        Args:
            is_whole: whether the value is all that there is of it.
        """
        if self._masks_html and self._is_active(tag, name, value, is_whole):
            return "active_html"
        name = "href" if name == "xlink:href" else name
        owners = OWNERS.get(name)
        if owners is None:
            return ""
        if not is_whole and name in LISTS and tag in owners:
            return "image" if self._settings.images == "mask" else ""
        value = unescape(value)
        for address in value.split(",") if name in LISTS else [value]:
            leads = self._hosts.leads(address.strip()[:MAX_HEAD])
            if leads is Destination.SCRIPT and self._masks_html:
                return "active_html"
            if leads is Destination.ELSEWHERE and tag in owners and (fault := self._elsewhere(tag, name)):
                return fault
        return ""

    def _elsewhere(self, tag: str, name: str) -> str:
        """What an address on another host is counted as."""
        settings = self._settings
        if name in FOLLOWED or tag in FRAMES or tag == "link":
            return "active_html" if settings.html == "mask" else ""
        linked = name == "href" and tag in ("a", "area")
        return ("link" if linked else "image") if (settings.links if linked else settings.images) == "mask" else ""

    def _is_active(self, tag: str, name: str, value: str, is_whole: bool) -> bool:
        if name.startswith("on"):
            is_handler = _HANDLER.fullmatch(name) is not None and name not in NO_HANDLERS
            return is_handler and not (is_whole and _does_nothing(unescape(value)))
        if name == "style":
            return not is_whole or _STYLE_LOADS.search(unescape(value)) is not None
        if name in PAINTS:
            return _PAINT_LOADS.search(unescape(value)) is not None
        if name == "http-equiv":
            return unescape(value).strip().lower() not in CALM_EQUIVALENTS
        if name == "attributename":
            return unescape(value).strip().lower() in _ANIMATES
        return name == "srcdoc" or (bool(value) and tag in FRAMES and tag in OWNERS.get(name, ()))


_URL_BEGUN = re.compile(r"(?i:h(?:t(?:t(?:p(?:s?:?/?)?)?)?)?|w(?:w(?:w)?)?)\Z")
_NESTS, _GAP, _END = r"(?P<nest>(?<=[\[\\]))", r"(?P<gap>(?<=\n\n))", r"(?P<end>(?<=>))"


def _trigger(signs: str, more: str, masks_links: bool) -> re.Pattern[str]:
    """What is of interest, each found at its last character.

    A set of characters first: it is looked for ten times as fast as what has to be true of each.
    """
    url = ""
    if masks_links:
        signs, url = f"{signs}hHwW", r"(?P<url>(?<![A-Za-z0-9].)(?i:(?<=h)ttps?:|(?<=w)ww\.))|"
    return re.compile(
        rf"[{signs}](?:{url}(?P<tag>(?<=<)(?:(?=[A-Za-z/!?])|\Z))|(?P<target>(?<=\][(:]))|(?P<image>(?<=!\[))|{more}"
        r"(?P<fence>(?<![`~][`~])(?<=[`~]))|(?P<return>(?<=\r)))",
        re.DOTALL,
    )


class Rules:
    """What holds for the answers of one guard; made once."""

    def __init__(self, settings: LinkSettings) -> None:
        self.settings = settings
        self.hosts = Hosts(settings.allowed_hosts)
        self.tags = TagRules(settings, self.hosts)
        self.masks_links = settings.links == "mask"
        self.acts = "mask" in (settings.images, settings.links, settings.html)
        self.reads_html = settings.code == "mask"
        """Whether answers are shown as HTML, without reading Markdown."""
        self.reads_spans = settings.code == "allow" and not self.masks_links
        """Whether code between backticks is left alone; programs that fetch previews of links find them there, too."""
        self.trigger = _trigger(r"<(:\[`~\r\\\n>", rf"{_NESTS}|{_GAP}|{_END}|", self.masks_links)
        self.plain_trigger = _trigger(r"<(:\[`~\r", r"(?P<nest>(?<=\]\[))|", self.masks_links)
        """Where no picture and no HTML has begun and nothing is in doubt: then neither nesting nor a gap matters."""
        self._url = re.compile(r"(?<![A-Za-z0-9])(?i:https?:|www\.)")
        self.tail = re.compile(rf"(?<![A-Za-z0-9]){_URL_BEGUN.pattern}") if self.masks_links else None

    def may_act(self, text: str) -> bool:
        """False: a whole text is certainly left as it is."""
        # Looked for one by one: faster than a pattern, and most texts hold none.
        if "<" in text or "]" in text or "`" in text or "~" in text or "\r" in text or "!" in text:
            return self.acts
        return self.masks_links and self._url.search(text) is not None
