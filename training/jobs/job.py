"""What a cluster is told of a training run, however it is told: image, nodes, volumes, and the recipe itself."""

from __future__ import annotations

from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from training.errors import RecipeError
from training.recipes.sections import GradientRecipe, Recipe

HOME = "/signet"
"""SIGNET_HOME in the pods, and where relative paths of a recipe start: the volume of the claim."""
RECIPE_FOLDER = "/recipe"
RECIPE_FILE = "recipe.yaml"

# A label of DNS that begins with a letter (RFC 1035), and leaves room for what controllers append.
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$")]
_Quantity = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]

Document = dict[str, Any]


class Job(BaseModel):
    """Strict about names: a cluster would refuse them later, or make something else of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: _Name
    namespace: _Name | None = None
    image: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-zA-Z0-9._/:-]*(@sha256:[0-9a-f]{64})?$")]
    nodes: Annotated[int, Field(ge=1, le=1000)] = 1
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    """Of each node; a process for each, or one on the CPU."""
    cpu: _Quantity = "4"
    memory: _Quantity = "16Gi"
    claim: _Name
    """A PersistentVolumeClaim that all nodes may write (ReadWriteMany): registry, runs, data."""
    recipe: str
    """As YAML."""

    @property
    def processes_per_node(self) -> int:
        return max(1, self.gpus)

    @property
    def processes(self) -> int:
        return self.nodes * self.processes_per_node

    @property
    def config_map(self) -> str:
        return f"{self.name}-recipe"

    def metadata(self, name: str | None = None) -> Document:
        named: Document = {"name": name or self.name}
        if self.namespace is not None:
            named["namespace"] = self.namespace
        return {**named, "labels": {"app.kubernetes.io/name": "signet", "app.kubernetes.io/component": "training"}}

    def recipe_document(self) -> Document:
        """Immutable: a run that is repeated must not find another recipe."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self.metadata(self.config_map),
            "immutable": True,
            "data": {RECIPE_FILE: self.recipe},
        }

    def env(self) -> list[Document]:
        # Nothing is downloaded by a training run: what it needs lies in the claim.
        values = {"SIGNET_HOME": HOME, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        return [{"name": name, "value": value} for name, value in values.items()]

    def resources(self) -> Document:
        limits: Document = {"memory": self.memory}
        if self.gpus:
            limits["nvidia.com/gpu"] = self.gpus
        return {"requests": {"cpu": self.cpu, **limits}, "limits": limits}

    def volumes(self) -> list[Document]:
        volumes: list[Document] = [
            {"name": "home", "persistentVolumeClaim": {"claimName": self.claim}},
            {"name": "recipe", "configMap": {"name": self.config_map}},
        ]
        if self.gpus:  # through which NCCL's processes on one node talk; containers have 64 MB by default
            volumes.append({"name": "shm", "emptyDir": {"medium": "Memory"}})
        return volumes

    def volume_mounts(self) -> list[Document]:
        mounts: list[Document] = [
            {"name": "home", "mountPath": HOME},
            {"name": "recipe", "mountPath": RECIPE_FOLDER, "readOnly": True},
        ]
        return [*mounts, {"name": "shm", "mountPath": "/dev/shm"}] if self.gpus else mounts  # noqa: S108


def make_job(recipe: Recipe, **settings: Any) -> Job:
    """A recipe's job; raises RecipeError where the cluster, or the run in it, would refuse it."""
    if not isinstance(recipe, GradientRecipe):
        raise RecipeError(
            f"method {recipe.method} runs in one process: --render is for methods that train by gradient descent"
        )
    content = yaml.safe_dump(recipe.model_dump(mode="json", exclude_unset=True), sort_keys=False, allow_unicode=True)
    try:
        job = Job(name=recipe.name, recipe=content, **settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0])
        option = "name (--set name=…)" if where == "name" else f"--{where}"
        raise RecipeError(f"{option}: {first['input']!r}: {first['msg']}") from None
    if recipe.batch_size < job.processes:
        raise RecipeError(
            f"batch_size {recipe.batch_size} is less than one example for each of {job.processes} processes"
        )
    return job
