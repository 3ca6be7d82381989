"""Names of HTML and SVG: which elements and attributes make a browser fetch or run something, and where.

From https://html.spec.whatwg.org/#attributes-1 and https://www.w3.org/TR/SVG2/, with obsolete ones that browsers
still read.
"""

from __future__ import annotations


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


BLOCKS = _set(
    "address article aside base basefont blockquote body caption center col colgroup dd details dialog dir div dl dt "
    "fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hr html iframe legend li "
    "link main menu menuitem nav noframes ol optgroup option p param pre script search section source style summary "
    "table tbody td textarea tfoot th thead title tr track ul"
)
"""Elements with which a block of HTML begins in Markdown, complete or not
(https://spec.commonmark.org/0.31.2/#html-blocks)."""

ACTIVE = _set("plaintext script style")
"""Elements that run, change the whole page, or swallow it, without any attribute."""

FRAMES = _set("applet base embed fencedframe frame iframe object portal")
"""What they load becomes a part of the page, wherever it is from."""

OWNERS = {
    "src": _set("audio bgsound embed fencedframe frame iframe ilayer image img input layer portal source track video"),
    "srcset": _set("image img source"),
    "imagesrcset": _set("link"),
    "poster": _set("video"),
    "data": _set("object"),
    "background": _set("body table tbody td tfoot th thead tr"),
    "href": _set(
        "a area base cursor feimage filter image lineargradient link mpath pattern radialgradient textpath tref use"
    ),
    "action": _set("form isindex"),
    "formaction": _set("button input"),
    "ping": _set("a area"),
    "lowsrc": _set("img"),
    "dynsrc": _set("img"),
    "classid": _set("object"),
    "codebase": _set("applet object"),
    "code": _set("applet"),
    "archive": _set("applet object"),
}
"""Attributes whose addresses are fetched or followed, and the elements that have them."""

LISTS = _set("archive imagesrcset ping srcset")
"""Attributes that hold several addresses."""

FOLLOWED = _set("action classid code formaction ping")
"""Attributes that send something along, or run what they lead to."""

PAINTS = _set("by clip-path cursor fill filter from marker marker-end marker-mid marker-start mask stroke to values")
"""Attributes of SVG that may hold `url(…)`."""

NO_HANDLERS = _set(
    "once one oneof ones ongoing onion online only onnx onset onsite onto onward onwards onboard onboarding ondemand"
)
"""Words that begin like the handler of an event and are none."""

CALM_EQUIVALENTS = _set(
    "accept-ch cache-control cleartype content-language content-script-type content-security-policy content-style-type "
    "content-type default-style expires imagetoolbar last-modified msthemecompatible origin-trial pics-label pragma "
    "reply-to x-dns-prefetch-control x-ua-compatible"
)
"""Values of `http-equiv` that neither fetch nor lead anywhere."""
