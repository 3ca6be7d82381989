"""Jobs for a cluster: every name is one that the cluster knows, and the recipe in the job is the recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner, Result

from training.cli import train
from training.errors import RecipeError
from training.jobs.documents import rayjob, trainjob
from training.jobs.job import make_job
from training.recipes import load_recipe
from training.recipes.sections import GradientRecipe
from training.registry import Registry

RECIPES = Path(__file__).parents[3] / "recipes"
GRADIENT = sorted(
    path.name
    for path in RECIPES.glob("*.yaml")
    if isinstance(load_recipe(path), GradientRecipe) and path.stem != "guard"
)

# The fields of both kinds, from the custom resource definitions of Kubeflow Trainer 2.2 and KubeRay 1.5.
TRAINER = {"image", "command", "args", "env", "numNodes", "numProcPerNode", "resourcesPerNode"}
TRAIN_JOB = {"runtimeRef", "trainer", "initializer", "suspend", "managedBy", "runtimePatches", "activeDeadlineSeconds"}
PATCHED_POD = {"containers", "volumes", "serviceAccountName", "nodeSelector", "tolerations", "securityContext"}
PATCHED_CONTAINER = {"name", "env", "volumeMounts", "securityContext"}
WORKER_GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template", "numOfHosts"}

SETTINGS: dict[str, Any] = {"image": "reg.example/signet-gpu:0.1.0", "claim": "signet", "nodes": 2, "gpus": 2}


def documents(name: str = "lora-sft.yaml", **settings: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The ConfigMap, the TrainJob and the RayJob."""
    job = make_job(load_recipe(RECIPES / name), **{**SETTINGS, **settings})
    (recipe, kubeflow), (same, ray) = trainjob(job), rayjob(job)
    assert recipe == same
    return recipe, kubeflow, ray


def check_pod(template: dict[str, Any]) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}
    kubernetes_validate.validate(pod, "1.34", strict=True)


def test_a_train_job_has_only_fields_that_there_are() -> None:
    recipe, job, _ = documents()

    assert (job["apiVersion"], job["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    assert job["spec"].keys() <= TRAIN_JOB
    trainer = job["spec"]["trainer"]
    assert trainer.keys() <= TRAINER
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 2)
    (patch,) = job["spec"]["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert pod.keys() <= PATCHED_POD
    assert pod["containers"][0].keys() <= PATCHED_CONTAINER
    # With what the runtime brings, it is a pod.
    container = {
        **pod["containers"][0],
        "image": trainer["image"],
        "command": trainer["command"],
        "env": trainer["env"],
    }
    check_pod({"spec": {**pod, "containers": [{**container, "resources": trainer["resourcesPerNode"]}]}})
    kubernetes_validate.validate(recipe, "1.34", strict=True)


def test_a_ray_job_has_only_fields_that_there_are() -> None:
    _, _, job = documents(namespace="research")

    assert (job["apiVersion"], job["kind"], job["metadata"]["namespace"]) == ("ray.io/v1", "RayJob", "research")
    cluster = job["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert workers.keys() <= WORKER_GROUP
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"] == 2
    assert job["spec"]["entrypoint"] == "python -m training.jobs.ray_workers /recipe/recipe.yaml --workers 4 --gpu"
    check_pod(workers["template"])
    check_pod(cluster["headGroupSpec"]["template"])


@pytest.mark.parametrize("name", GRADIENT)
def test_the_recipe_in_the_job_is_the_recipe(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES / name)
    document, _, _ = documents(name, nodes=1, gpus=1)
    written = tmp_path / "recipe.yaml"
    written.write_text(document["data"]["recipe.yaml"])

    assert load_recipe(written) == recipe


def test_without_gpus_nothing_asks_for_them() -> None:
    _, kubeflow, ray = documents(gpus=0)

    assert "nvidia" not in str(kubeflow) + str(ray)
    assert "shm" not in str(kubeflow)
    assert kubeflow["spec"]["trainer"]["numProcPerNode"] == 1
    assert "--workers 2" in ray["spec"]["entrypoint"]
    assert "--gpu" not in ray["spec"]["entrypoint"]


@pytest.mark.parametrize(
    ("overrides", "settings", "said"),
    [
        (["name=support_desk"], {}, r"name \(--set name=…\): 'support_desk'"),
        (["name=7b"], {}, "'7b'"),
        ([f"name={'a' * 60}"], {}, "name"),
        ([], {"image": "two words"}, "--image: 'two words'"),
        ([], {"image": "signet; rm -rf /"}, "--image"),
        ([], {"claim": "Signet"}, "--claim: 'Signet'"),
        ([], {"namespace": "a b"}, "--namespace"),
        ([], {"memory": "lots"}, "--memory: 'lots'"),
        ([], {"cpu": "0"}, "--cpu"),
        ([], {"nodes": 4}, "batch_size 4 is less than one example for each of 8 processes"),
        ([], {"node": 4}, "--node"),
    ],
)
def test_what_a_cluster_would_refuse_is_one_line(overrides: list[str], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        make_job(load_recipe(RECIPES / "lora-sft.yaml", overrides), **{**SETTINGS, **settings})

    assert "\n" not in str(caught.value)


def test_what_runs_in_one_process_is_not_spread() -> None:
    with pytest.raises(RecipeError, match="method merge runs in one process"):
        make_job(load_recipe(RECIPES / "merge.yaml"), **SETTINGS)


# -- the command

Signet = Callable[..., Result]


@pytest.fixture
def signet(home: Path) -> Signet:
    class Settings:
        def __init__(self) -> None:
            self.home = home

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(train, [str(argument) for argument in arguments], obj=Settings)

    return run


def test_the_command_prints_documents_and_memory(signet: Signet, tiny: Registry) -> None:
    recipe = (RECIPES / "lora-sft.yaml", "--set", "base=tiny")

    result = signet(*recipe, "--render", "trainjob", "--image", "signet:1", "--claim", "signet", "--nodes", "2")

    assert result.exit_code == 0, result.output
    assert [document["kind"] for document in yaml.safe_load_all(result.stdout)] == ["ConfigMap", "TrainJob"]
    assert result.stdout.startswith("# 2 processes on 2 nodes, each with the whole model.\n# Memory of each process")
    assert "    base: tiny\n" in result.stdout  # the recipe, to be read


def test_a_base_that_is_not_here_is_said(signet: Signet) -> None:
    said = signet(RECIPES / "medical-7b.yaml", "--render", "rayjob", "--image", "signet:1", "--claim", "signet").stdout

    assert "# Memory: not computed: no checkpoint named 'medical-base-7b'" in said
    assert [document["kind"] for document in yaml.safe_load_all(said)] == ["ConfigMap", "RayJob"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--render", "trainjob", "--claim", "signet"), "--render trainjob needs --image and --claim"),
        (("--render", "trainjob", "--image", "signet:1"), "--render trainjob needs --image and --claim"),
        (("--image", "signet:1"), "--image is for --render"),
        (("--nodes", "2"), "--nodes is for --render"),
        (("--render", "podman", "--image", "a", "--claim", "b"), "'podman' is not one of"),
        (("--render", "rayjob", "--image", "A B", "--claim", "b"), "--image: 'A B'"),
    ],
)
def test_mistakes_of_the_command(signet: Signet, options: tuple[str, ...], said: str) -> None:
    result = signet(RECIPES / "lora-sft.yaml", *options)

    assert result.exit_code != 0
    assert said in result.stderr
