"""A run as a RayJob of KubeRay, `ray.io/v1`: a cluster for this run alone, with a worker for each node."""

from __future__ import annotations

from typing import Any

from training.jobs.job import RECIPE_FILE, RECIPE_FOLDER, Document, Job

RAY_VERSION = "2.52.0"
"""Must be that of the image."""


def rayjob(job: Job) -> list[Document]:
    """The documents to apply, in their order."""
    entrypoint = [
        "python -m training.jobs.ray_workers",
        f"{RECIPE_FOLDER}/{RECIPE_FILE}",
        f"--workers {job.processes}",
        *(["--gpu"] if job.gpus else []),
    ]
    # The head schedules and trains nothing: no work is placed on it.
    head = {"cpu": "1", "memory": "4Gi"}
    spec = {
        "entrypoint": " ".join(entrypoint),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "rayClusterSpec": {
            "rayVersion": RAY_VERSION,
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104
                "template": _pod(job, "ray-head", {"requests": head, "limits": {"memory": head["memory"]}}),
            },
            "workerGroupSpecs": [
                {
                    "groupName": "trainers",
                    "replicas": job.nodes,
                    "minReplicas": job.nodes,
                    "maxReplicas": job.nodes,
                    "rayStartParams": {},
                    "template": _pod(job, "ray-worker", job.resources()),
                }
            ],
        },
    }
    document = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": job.metadata(), "spec": spec}
    return [job.recipe_document(), document]


def _pod(job: Job, container: str, resources: dict[str, Any]) -> Document:
    return {
        "spec": {
            "containers": [
                {
                    "name": container,
                    "image": job.image,
                    "env": job.env(),
                    "resources": resources,
                    "volumeMounts": job.volume_mounts(),
                }
            ],
            "volumes": job.volumes(),
        }
    }
