"""Dashboards drawn without Grafana."""

from __future__ import annotations

import math
from xml.etree import ElementTree

from loadtests.tools.panels import Drawn, answered, asked, picture
from loadtests.tools.prometheus import Line
from monitoring.dashboards import DASHBOARDS

TRUST = DASHBOARDS["trust"]


class Answers:
    """A Prometheus that answers every query alike."""

    def __init__(self, *lines: Line) -> None:
        self.lines = list(lines)

    def query_range(self, expr: str, start: float, end: float, step_s: float) -> list[Line]:
        return self.lines


def text_of(drawn: list[Drawn]) -> list[str]:
    root = ElementTree.fromstring(picture(TRUST, drawn))
    return [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_variables_are_filled_in_as_grafana_does() -> None:
    query = 'rate(a{namespace=~"$namespace", model=~"$model"}[$__rate_interval])'

    assert answered(query, "10s") == 'rate(a{namespace=~".*", model=~".*"}[10s])'


def test_each_panel_is_drawn_and_labels_are_escaped() -> None:
    line = Line({"model": "<b>", "version": "7", "feature": "a"}, [(1.0, 2.0), (2.0, math.nan), (3.0, 4.0)])
    drawn, empty = asked(TRUST, Answers(line), 1.0, 3.0, "10s")  # type: ignore[arg-type]

    texts = text_of(drawn)

    assert empty == []
    assert {panel.title for panel in TRUST.panels} <= set(texts)
    assert any("  <b> 7 a" in text for text in texts)
    assert "No data" not in texts


def test_what_has_no_number_is_empty() -> None:
    drawn, empty = asked(TRUST, Answers(Line({}, [(1.0, math.nan)])), 1.0, 3.0, "10s")  # type: ignore[arg-type]

    num_queries = sum(len(panel.queries) for panel in TRUST.panels)
    assert len(empty) == num_queries
    assert text_of(drawn).count("No data") == len([*TRUST.panels])
