"""The dashboards are what Grafana imports, and each panel says what to conclude from it."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from monitoring.dashboards import DASHBOARDS, Dashboard

every_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)


@every_dashboard
def test_panels_fill_the_grid_without_overlap(dashboard: Dashboard) -> None:
    taken: Counter[tuple[int, int]] = Counter()
    for panel in dashboard.json()["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        taken.update((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"]))

    assert set(taken.values()) == {1}
    assert len({x for x, _ in taken}) == 24


@every_dashboard
def test_each_panel_explains_itself_and_asks_the_chosen_prometheus(dashboard: Dashboard) -> None:
    shown = dashboard.json()
    panels = [panel for panel in shown["panels"] if panel["type"] != "row"]

    assert len({panel["id"] for panel in shown["panels"]}) == len(shown["panels"])
    assert len({panel.title for panel in dashboard.panels}) == len(panels)
    for panel in panels:
        assert panel["description"].endswith(".") or panel["description"].endswith(".)"), panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]] == [*"ABCDEFGH"[: len(panel["targets"])]]
    assert {variable["name"] for variable in shown["templating"]["list"]} == {"datasource", "namespace", "model"}


@every_dashboard
def test_legends_name_labels_that_their_query_keeps(dashboard: Dashboard) -> None:
    for panel in dashboard.panels:
        for query in panel.queries:
            kept = set(re.findall(r"\w+", " ".join(re.findall(r"\b(?:by|group_left) \(([^)]*)\)", query.expr))))
            assert set(re.findall(r"{{(\w+)}}", query.legend)) <= kept, panel.title


def test_dashboards_have_names_of_their_own() -> None:
    assert len({dashboard.uid for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS) == 3
