"""Data sets of the registry in recipes: `data.train: NAME[@VERSION]` in place of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from training.errors import SourceError
from training.registry import Checkpoint, Registry

TRAIN, HELDOUT = "train.jsonl", "heldout.jsonl"

AnyRecipe = TypeVar("AnyRecipe", bound=BaseModel)


def find_data_set(path: Path, registry: Registry) -> Checkpoint | None:
    """The data set that a path's first part names; None where no checkpoint is called so.

    Raises SourceError where the name is a model's, RegistryError where there is no such version.
    """
    ref = path.parts[0] if path.parts else ""
    if not registry.has(ref.partition("@")[0]):
        return None
    checkpoint = registry.resolve(ref)
    if checkpoint.manifest.kind != "data":
        raise SourceError(f"{checkpoint.ref} is not a data set but {checkpoint.manifest.kind}")
    return checkpoint


def file_within(path: Path, checkpoint: Checkpoint) -> Path:
    """The file below it that the path's other parts name; what is to be learned from, where there are none."""
    return checkpoint.path.joinpath(*path.parts[1:] or (TRAIN,))


def find_heldout(path: Path, registry: Registry) -> tuple[Path, str]:
    """The file of a data set, verified, and how it is called with its version; what it holds out, where none is named.

    What is no data set's name stays as it is. Raises SourceError where the set has no such file, RegistryError.
    """
    checkpoint = find_data_set(path, registry)
    if checkpoint is None:
        return path, str(path)
    registry.verify(checkpoint)
    named = Path(checkpoint.ref, *(path.parts[1:] or (HELDOUT,)))
    file = file_within(named, checkpoint)
    if not file.is_file():
        raise SourceError(f"the data set {checkpoint.ref} has no {Path(*named.parts[1:])}")
    return file, str(named)


def pinned(recipe: AnyRecipe, registry: Registry, is_file: Callable[[Path], bool]) -> AnyRecipe:
    """The recipe with the version of each data set written out; the part that it holds out goes with it."""
    data = getattr(recipe, "data", None)
    if not isinstance(data, BaseModel):
        return recipe
    changes: dict[str, Path] = {}
    for name in type(data).model_fields:
        path = getattr(data, name)
        if not isinstance(path, Path) or is_file(path):
            continue
        checkpoint = find_data_set(path, registry)
        if checkpoint is not None:
            rest = path.parts[1:] or (HELDOUT if name == "heldout" else TRAIN,)
            changes[name] = Path(checkpoint.ref, *rest)
            if name == "train" and rest == (TRAIN,) and getattr(data, "heldout", 0) is None:
                changes["heldout"] = Path(checkpoint.ref, HELDOUT)
    return recipe.model_copy(update={"data": data.model_copy(update=changes)}) if changes else recipe


def paths_in(settings: Any) -> Iterator[Path]:
    """Every path that a recipe's sections hold."""
    if isinstance(settings, Path):
        yield settings
    elif isinstance(settings, BaseModel):
        for name in type(settings).model_fields:
            yield from paths_in(getattr(settings, name))
    elif isinstance(settings, list | tuple):
        for item in settings:
            yield from paths_in(item)
