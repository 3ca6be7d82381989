"""A run as what a cluster takes: a Kubeflow TrainJob, or a RayJob of KubeRay.

TrainJobs are of `trainer.kubeflow.org/v1alpha1` as of Kubeflow Trainer 2.2. The cluster's runtime `torch-distributed`
tells `torchrun` by its environment how many nodes and processes there are. Before 2.2, volumes were
`podTemplateOverrides`; `runtimePatches` replaced them within the same version of the API.

RayJobs are of `ray.io/v1`: a cluster for this run alone, with a worker for each node.
"""

from __future__ import annotations

from typing import Any

from training.jobs.job import HOME, RECIPE_FILE, RECIPE_FOLDER, Document, Job

RAY_VERSION = "2.52.0"
"""Must be that of the image."""
RUNTIME = "torch-distributed"
# Of the runtime: its job, and the container that trains.
_NODE = "node"
_MANAGER = "signet/train"


def trainjob(job: Job) -> list[Document]:
    """The documents to apply, in their order."""
    pod = {
        "containers": [{"name": _NODE, "volumeMounts": job.volume_mounts()}],
        "volumes": job.volumes(),
    }
    patch = {"replicatedJobs": [{"name": _NODE, "template": {"spec": {"template": {"spec": pod}}}}]}
    spec = {
        "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "ClusterTrainingRuntime", "name": RUNTIME},
        "trainer": {
            "image": job.image,
            # `env` changes the folder, where relative paths of data start, without a shell between the signals.
            "command": [
                "env",
                f"--chdir={HOME}",
                "torchrun",
                "-m",
                "signet",
                "train",
                f"{RECIPE_FOLDER}/{RECIPE_FILE}",
            ],
            "numNodes": job.nodes,
            "numProcPerNode": job.processes_per_node,
            "resourcesPerNode": job.resources(),
            "env": job.env(),
        },
        "runtimePatches": [{"manager": _MANAGER, "trainingRuntimeSpec": {"template": {"spec": patch}}}],
    }
    document = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": job.metadata(),
        "spec": spec,
    }
    return [job.recipe_document(), document]


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
