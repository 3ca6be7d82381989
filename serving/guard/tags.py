"""HTML tags in answers: which may stay.

A tag stays when it is written so plainly that every reader takes it for the same, and does nothing: a known grammar, no
name and no attribute that runs or loads something. By this nothing that opens a comment, a script or a quotation
gets through, so the next tag is read in the state that it seems to be in.
"""

from __future__ import annotations

import re
from html import unescape

from serving.guard.hosts import Hosts, Leads
from serving.guard.settings import LinkSettings

MAX_TAG = 512
"""Characters of a tag; longer ones are made inert."""

_NAME = r"[A-Za-z][\w.:-]*+"
_ATTRIBUTE = (
    r"\s++(?P<name>[A-Za-z_][\w-]*+(?::[\w-]++)?)(?:\s*+=\s*+(?P<value>\"[^\"<>]*+\"|'[^'<>]*+'|[^\s\"'<>=`]++))?"
)
_UNNAMED = re.sub(r"\?P<\w+>", "?:", _ATTRIBUTE)
_TAG = re.compile(rf"</?({_NAME})((?>(?:{_UNNAMED})*))\s*+/?>", re.ASCII)
_BEGUN = re.compile(
    rf"</?(?:{_NAME}(?>(?:{_UNNAMED})*)(?::|\s*+=\s*+(?:\"[^\"<>]*+|'[^'<>]*+)?|\s*+/?|\s++[A-Za-z_][\w-]*+:?)?)?\Z",
    re.ASCII,
)
_DOCTYPE = re.compile(r"<!(?i:doctype\s++html)(?i:\s++(?:public|system)(?:\s++\"[^\"<>]*+\"){1,2})?\s*+>", re.ASCII)
_DOCTYPE_BEGUN = re.compile(
    r"<!(?i:d(?:o(?:c(?:t(?:y(?:p(?:e(?:\s++(?:h(?:t(?:m(?:l[\w\s\"/.:+-]*+)?)?)?)?)?)?)?)?)?)?)?)?\Z", re.ASCII
)
_NAME_BEGUN = re.compile(r"</?([A-Za-z]*)")
_ATTRIBUTES = re.compile(_ATTRIBUTE, re.ASCII)
_ADDRESS = re.compile(r"<(?:(?i:https?|ftp|mailto|tel):[^\s<>\"'`]*+|[\w.+-]++@[A-Za-z0-9.-]++)>", re.ASCII)
_ADDRESS_BEGUN = re.compile(r"<(?:(?i:https?|ftp|mailto|tel):[^\s<>\"'`]*+|[\w.+-]++(?:@[A-Za-z0-9.-]*+)?)\Z", re.ASCII)
_ATTRIBUTE_IN_ADDRESS = re.compile(r"/(?:on[a-z]+|style)\s*=", re.IGNORECASE)

_ACTIVE = frozenset(
    {
        *("applet", "audio", "base", "bgsound", "button", "embed", "fencedframe", "form", "frame", "frameset"),
        *("iframe", "ilayer", "image", "input", "keygen", "layer", "link", "listing", "marquee", "math"),
        *("meta", "noembed", "noframes", "noscript", "object", "plaintext", "portal", "script", "select"),
        *("source", "style", "svg", "template", "textarea", "title", "track", "video", "xmp"),
    }
)
_LOADING = frozenset(
    {
        *("audio", "embed", "frame", "iframe", "image", "img", "input", "link", "object", "picture", "source"),
        *("svg", "track", "video"),
    }
)
_SCRIPTS = frozenset({"javascript", "vbscript", "livescript", "data", "blob", "file", "mhtml"})
_RUNS = frozenset({"style", "srcdoc", "ping"})
_ADDRESSES = frozenset(
    {
        *("action", "archive", "background", "cite", "classid", "codebase", "data", "dynsrc", "formaction"),
        *("href", "icon", "imagesrcset", "longdesc", "lowsrc", "manifest", "poster", "profile", "src"),
        *("srcset", "usemap", "xlink:href"),
    }
)
_LISTS = frozenset({"srcset", "imagesrcset", "archive"})


def tag_at(text: str, start: int, final: bool) -> tuple[int, bool] | None:
    """The end of the tag or address in angle brackets that begins at `start`, and whether its form is plain.

    None: what follows will decide. The end of one whose form is not plain is that of its bracket.
    """
    for whole, begun in ((_ADDRESS, _ADDRESS_BEGUN), (_TAG, _BEGUN), (_DOCTYPE, _DOCTYPE_BEGUN)):
        match = whole.match(text, start)
        if match is not None and match.end() - start <= MAX_TAG:
            return match.end(), True
        if not final and len(text) - start <= MAX_TAG and begun.match(text, start) is not None:
            return None
    return start + 1, False


_LOOSE_NAME = re.compile(r"<([A-Za-z]++)[^\s/>:]*+")
_LOOSE_ATTRIBUTE = re.compile(r"([^\s/=>]++)\s*+=")
_OPENS_VALUE = re.compile(r"[<\"'`]")


def is_harmless(text: str, start: int, final: bool) -> bool | None:
    """Whether what begins like a tag at `start` does nothing, though it is not plainly written: `a<b || c>d`, `x<y`.

    To readers of Markdown it is text. A reader of HTML takes all to the next `>` for one tag: its name must be
    harmless, and without a value (`=`) no attribute is more than a word. With values it must hold no quotation and no
    other tag, which could end elsewhere. None: what follows will decide.
    """
    end = text.find(">", start, start + MAX_TAG)
    tag = text[start : start + MAX_TAG if end < 0 else end]
    name = _LOOSE_NAME.match(tag)
    if name is None:
        return False
    open_name = end < 0 and not final and name.end(1) == len(tag)
    if not open_name and name[1].lower() in _ACTIVE | _LOADING:
        return False
    if tag[name.end() : name.end() + 1] == ":" or ("=" in tag and (_OPENS_VALUE.search(tag, 1) or _runs(tag))):
        return False
    if end >= 0 or final:
        return end >= 0 or len(text) - start <= MAX_TAG
    return None if len(tag) < MAX_TAG else False


def _runs(tag: str) -> bool:
    """Whether a tag has a value of an attribute that runs or loads something."""
    names = (match[1].lower() for match in _LOOSE_ATTRIBUTE.finditer(tag))
    return any(name.startswith("on") or name in _RUNS or name in _ADDRESSES for name in names)


class TagRules:
    """What is wrong with a tag."""

    def __init__(self, settings: LinkSettings, hosts: Hosts) -> None:
        self._settings = settings
        self._hosts = hosts

    def fault(self, tag: str, plain: bool) -> str:
        """What a tag is counted as when it may not stay: `active_html`, `image`, `link`; "" when it may.

        `tag`: the whole of one in plain form, else what is known of it.
        """
        masks_html = self._settings.html == "mask"
        if not plain:
            begun = _NAME_BEGUN.match(tag)
            loads = begun is not None and begun[1].lower() in _LOADING
            return "active_html" if masks_html else "image" if loads and self._settings.images == "mask" else ""
        match = _TAG.fullmatch(tag)
        if match is None:  # an address, or the beginning of a page
            return "active_html" if masks_html and _ATTRIBUTE_IN_ADDRESS.search(tag) else ""
        name = match[1].lower()
        if masks_html and (name in _ACTIVE or name.partition(":")[0] in _SCRIPTS):
            return "active_html"
        for attribute in _ATTRIBUTES.finditer(match[2]):
            if fault := self._attribute_fault(name, attribute["name"].lower(), attribute["value"] or ""):
                return fault
        return ""

    def _attribute_fault(self, tag: str, name: str, value: str) -> str:
        masks_html = self._settings.html == "mask"
        if masks_html and (name.startswith("on") or name in _RUNS):
            return "active_html"
        if name not in _ADDRESSES:
            return ""
        value = unescape(value.strip("\"'"))
        for address in value.split(",") if name in _LISTS else [value]:
            leads = self._hosts.leads(address.strip())
            if leads is Leads.SCRIPT and masks_html:
                return "active_html"
            if leads is Leads.ELSEWHERE:
                linked = name == "href" and tag in ("a", "area")
                if (self._settings.links if linked else self._settings.images) == "mask":
                    return "link" if linked else "image"
        return ""
