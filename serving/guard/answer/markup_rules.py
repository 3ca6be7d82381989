"""What the markup stage looks for in the answers of one guard."""

from __future__ import annotations

import re

from serving.guard.answer.hosts import Hosts
from serving.guard.answer.tags import TagRules
from serving.guard.settings import LinkSettings

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
