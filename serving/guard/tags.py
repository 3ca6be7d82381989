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
_TAG = re.compile(rf"</?({_NAME})((?:{_UNNAMED})*+)\s*+/?>", re.ASCII)
_BEGUN = re.compile(
    rf"</?(?:{_NAME}(?:{_UNNAMED})*+(?::|\s*+=\s*+(?:\"[^\"<>]*+|'[^'<>]*+)?|\s*+/?|\s++[A-Za-z_][\w-]*+:?)?)?\Z",
    re.ASCII,
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
    for whole, begun in ((_ADDRESS, _ADDRESS_BEGUN), (_TAG, _BEGUN)):
        match = whole.match(text, start)
        if match is not None and match.end() - start <= MAX_TAG:
            return match.end(), True
        if not final and len(text) - start <= MAX_TAG and begun.match(text, start) is not None:
            return None
    return start + 1, False


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
        if match is None:  # an address
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
