"""Dashboards as Grafana's JSON: rows of panels, each with the queries that it draws.

Only what Grafana has understood since version 9 (schema 36) is written; newer ones read it and fill in the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from monitoring.promql import narrowed
from monitoring.telemetry import names

Json = dict[str, Any]

_COLUMNS = 24
_SCHEMA = 36
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_MODEL_LABELS = {metric.name for metric in (*names.GATEWAY_METRICS, *names.DRIFT_METRICS) if "model" in metric.labels}
_MODEL_LABELS.add("signet_engine_manifest_info")


@dataclass(frozen=True)
class Query:
    """A query in PromQL, and how its lines are called: text with labels as `{{model}}`."""

    promql: str
    legend: str
    has_exemplars: bool = False
    """Whether dots in the picture lead to traces."""

    @property
    def expr(self) -> str:
        """The query, narrowed to the namespaces and models that the dashboard's reader has chosen."""
        return narrowed(self.promql, _chosen)


def _chosen(metric: str) -> str:
    matchers = ['namespace=~"$namespace"']
    if _family(metric) in _MODEL_LABELS:
        matchers.append('model=~"$model"')
    elif metric.startswith("vllm:"):
        matchers.append('model_name=~"$model"')
    return ", ".join(matchers)


def _family(metric: str) -> str:
    for ending in ("_bucket", "_sum", "_count"):
        metric = metric.removesuffix(ending)
    return metric


@dataclass(frozen=True)
class Panel:
    """One picture. `about` is shown at the panel: what its reader should conclude from it."""

    title: str
    about: str
    queries: tuple[Query, ...]
    unit: str = "short"
    """Grafana's name: s, percentunit, reqps, bytes, …"""
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    width: int = 8
    is_stacked: bool = False
    top: float | None = None
    """The end of the axis; None: as high as the values."""
    is_signed: bool = False
    """Whether values below zero say something."""
    steps: tuple[tuple[float, str], ...] = ()
    """Colours from values on, of a stat whose colour below the first is green."""
    starts: str = "green"
    words: Mapping[int, str] | None = None
    """What values mean, of a stat."""


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """One page of Grafana."""

    uid: str
    title: str
    about: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> Iterator[Panel]:
        """All panels, from top to bottom."""
        for row in self.rows:
            yield from row.panels

    def json(self) -> Json:
        """The dashboard as Grafana imports it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.about,
            "tags": ["signet"],
            "schemaVersion": _SCHEMA,
            "editable": False,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "graphTooltip": 1,
            "templating": {"list": _variables()},
            "links": [
                {"type": "dashboards", "tags": ["signet"], "title": "Signet", "asDropdown": True, "keepTime": True}
            ],
            "panels": list(self._placed()),
        }

    def _placed(self) -> Iterator[Json]:
        number, y = 0, 0
        for row in self.rows:
            number += 1
            yield {"id": number, "type": "row", "title": row.title, "gridPos": _grid(0, y, _COLUMNS, 1), "panels": []}
            y += 1
            x, tallest = 0, 0
            for panel in row.panels:
                height = 4 if panel.kind == "stat" else 8
                if x + panel.width > _COLUMNS:
                    x, y, tallest = 0, y + tallest, 0
                number += 1
                yield {"id": number, "gridPos": _grid(x, y, panel.width, height), **_panel(panel)}
                x, tallest = x + panel.width, max(tallest, height)
            y += tallest


def _grid(x: int, y: int, width: int, height: int) -> Json:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel) -> Json:
    is_instant = panel.kind == "table"
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": _SOURCE,
            "expr": query.expr,
            "legendFormat": query.legend,
            **({"exemplar": True} if query.has_exemplars else {}),
            "range": not is_instant,
            "instant": is_instant,
            **({"format": "table"} if is_instant else {}),
        }
        for number, query in enumerate(panel.queries)
    ]
    defaults: Json = {"unit": panel.unit, "custom": _custom(panel)}
    if not panel.is_signed:
        defaults["min"] = 0
    if panel.top is not None:
        defaults["max"] = panel.top
    if panel.kind == "stat":
        steps = [{"color": panel.starts, "value": None}, *({"color": name, "value": at} for at, name in panel.steps)]
        defaults |= {"thresholds": {"mode": "absolute", "steps": steps}, "custom": {}}
    if panel.words:
        shown = {str(value): {"text": text} for value, text in panel.words.items()}
        defaults["mappings"] = [{"type": "value", "options": shown}]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _OPTIONS[panel.kind],
        **({"transformations": _TABLE} if panel.kind == "table" else {}),
    }


def _custom(panel: Panel) -> Json:
    if panel.kind != "timeseries":
        return {}
    stacking = {"mode": "normal" if panel.is_stacked else "none", "group": "A"}
    return {"lineWidth": 1, "fillOpacity": 30 if panel.is_stacked else 5, "showPoints": "never", "stacking": stacking}


_OPTIONS: dict[str, Json] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background", "graphMode": "area"},
    "table": {"showHeader": True},
}
_TABLE = [{"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True, "__name__": True}}}]


def _variables() -> list[Json]:
    def chosen(name: str, label: str, query: str) -> Json:
        return {
            "name": name,
            "label": label,
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            # Outside Kubernetes nothing has a namespace: `.*` fits that too.
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }

    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    waiting = names.QUEUE_WAITING.name
    return [
        source,
        chosen("namespace", "Namespace", f"label_values({names.IN_FLIGHT.name}, namespace)"),
        chosen("model", "Model", f'label_values({waiting}{{namespace=~"$namespace"}}, model)'),
    ]
