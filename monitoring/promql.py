"""As much of PromQL as dashboards and alerts need: which metrics a query names, and narrowing all of them at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

# Names of the metrics that we ask for, wherever they stand in a query; `up` is a word elsewhere, so only with braces.
_SELECTOR = re.compile(
    r'(?<![\w:"$.-])((?:signet|vllm|kube|process)[_:][a-zA-Z0-9_:]+|up(?=\{))(?:\{((?:[^}"]|"[^"]*")*)\})?'
)
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"')


def selectors(query: str) -> Iterator[tuple[str, list[str]]]:
    """Each metric that a query selects, with the labels that it is matched by."""
    for metric, matchers in _SELECTOR.findall(query):
        yield metric, _MATCHER.findall(matchers)


def narrowed(query: str, matchers_of: Callable[[str], str]) -> str:
    """The query with `matchers_of(metric)`, such as `namespace="a"`, added to each of its selectors."""

    def narrow(found: re.Match[str]) -> str:
        matchers = ", ".join(filter(None, (matchers_of(found[1]), found[2])))
        return found[1] + (f"{{{matchers}}}" if matchers else "")

    return _SELECTOR.sub(narrow, query)
