"""The two kinds of lines that most panels draw."""

from __future__ import annotations

from monitoring.dashboards.grafana import Query


def rates(counter: str, by: str) -> tuple[Query, ...]:
    """What is counted a second, a line for each combination of the labels `by` (`"model, kind"`)."""
    return (Query(f"sum by ({by}) (rate({counter}[$__rate_interval]))", _legend(by)),)


def quantiles(histogram: str, by: str, *wanted: float) -> tuple[Query, ...]:
    """Quantiles of a histogram, a line for each and for each combination of the labels `by`, which may be empty."""
    kept = ", ".join(filter(None, ("le", by)))
    return tuple(
        Query(
            f"histogram_quantile({q}, sum by ({kept}) (rate({histogram}_bucket[$__rate_interval])))",
            f"p{round(100 * q)} {_legend(by)}".strip(),
            has_exemplars=histogram.startswith("signet_gateway_"),
        )
        for q in wanted
    )


def _legend(by: str) -> str:
    return " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(",") if label)
