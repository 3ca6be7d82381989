"""A run as a Kubeflow TrainJob, `trainer.kubeflow.org/v1alpha1` as of Kubeflow Trainer 2.2.

The cluster's runtime `torch-distributed` tells `torchrun` by its environment how many nodes and processes there are.
Before 2.2, volumes were `podTemplateOverrides`; `runtimePatches` replaced them within the same version of the API.
"""

from __future__ import annotations

from training.jobs.job import HOME, RECIPE_FILE, RECIPE_FOLDER, Document, Job

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
