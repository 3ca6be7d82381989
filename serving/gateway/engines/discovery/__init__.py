"""Engines that come and go: found by DNS or Kubernetes. A source tells all it knows whenever that has changed."""

from serving.gateway.engines.discovery.source import Report, Source

__all__ = ["Report", "Source"]
