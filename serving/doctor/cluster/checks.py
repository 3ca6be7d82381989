"""All checks of a release in a cluster."""

from __future__ import annotations

from serving.doctor.cluster.api import ClusterApi
from serving.doctor.cluster.autoscaling import check_autoscaling
from serving.doctor.cluster.checkpoints import check_checkpoints
from serving.doctor.cluster.network import check_network
from serving.doctor.cluster.pods import check_pods
from serving.doctor.cluster.scraping import check_scraping
from serving.doctor.cluster.volumes import check_volumes
from serving.doctor.finding import Check, check


def cluster_checks(api: ClusterApi) -> list[Check]:
    """The live objects, as the API server shows them."""
    return [
        Check("cluster", api.check),
        check("pods", check_pods, api),
        check("autoscaling", check_autoscaling, api),
        check("network", check_network, api),
        check("volumes", check_volumes, api),
        check("checkpoints", check_checkpoints, api),
        check("scraping", check_scraping, api),
    ]
