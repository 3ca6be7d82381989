"""`signet train RECIPE --render trainjob|rayjob`: what to apply to a cluster, as YAML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from training.errors import RecipeError, TrainingError
from training.evaluate.source import Source
from training.jobs.documents import rayjob, trainjob
from training.jobs.job import Document, Job, make_job
from training.jobs.memory import Shape, training_memory
from training.recipes.sections import GradientRecipe, Recipe
from training.registry import RegistryError

Kind = Literal["trainjob", "rayjob"]

_RENDERERS: dict[Kind, Callable[[Job], list[Document]]] = {"trainjob": trainjob, "rayjob": rayjob}


def render(kind: Kind, recipe: Recipe, find_model: Callable[[str], Source], **settings: Any) -> str:
    """The documents, after a comment on what each process needs; raises RecipeError for names a cluster refuses."""
    job = make_job(recipe, **settings)
    documents = yaml.dump_all(_RENDERERS[kind](job), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    said = [
        f"{job.processes} processes on {job.nodes} nodes, each with {_share(recipe)}.",
        *_memory(recipe, job, find_model),
    ]
    return "".join(f"# {line}\n" for line in said) + documents


def _share(recipe: Recipe) -> str:
    return "its share of the model" if getattr(recipe, "sharding", "none") == "full" else "the whole model"


class _Dumper(yaml.SafeDumper):
    """Writes the recipe as its lines, to be read."""


def _as_lines(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _as_lines)


def _memory(recipe: Recipe, job: Job, find_model: Callable[[str], Source]) -> Sequence[str]:
    """By formula, where the base's configuration is at hand and has a shape that is known."""
    base, data = getattr(recipe, "base", None), getattr(recipe, "data", None)
    max_tokens = getattr(data, "max_tokens", None)
    if not isinstance(recipe, GradientRecipe) or base is None or max_tokens is None:
        return ["Memory: computed only for methods that train a base on texts of at most data.max_tokens."]
    try:
        folder = Path(base) if (Path(base) / "config.json").is_file() else find_model(base).path
        memory = training_memory(Shape.read(folder), recipe, max_tokens, job.gpus > 0, job.processes)
    except (RecipeError, TrainingError, RegistryError, OSError) as error:
        return [f"Memory: not computed: {' '.join(str(error).split())}"]
    return ["Memory of each process, by formula and not measured:", *(f"  {line}" for line in memory.lines())]
