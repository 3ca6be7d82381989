"""`python -m training.classifiers RECIPE`: train, register with a signed manifest, and optionally ship."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import click

from serving.guard.classifiers.attacks import WEIGHTS
from serving.guard.classifiers.linear import load, save
from serving.guard.classifiers.meaning import Meanings
from training.classifiers.examples import OpenData, read_open_data
from training.classifiers.recipe import ClassifierRecipe
from training.classifiers.train import train
from training.command import one_line_errors
from training.recipes.code_version import code_version
from training.recipes.flat import read_flat
from training.registry import Registry
from training.registry.manifest import ManifestDraft, RecipeRecord

CARD = "data-card.json"


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Folder with the open data sets.")
@click.option(
    "--home", type=click.Path(path_type=Path), default=Path(".signet"), show_default=True, help="SIGNET_HOME."
)
@click.option(
    "--encoder",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of a sentence encoder: distill the meanings of words anew, instead of taking those that are shipped.",
)
@click.option("--ship", is_flag=True, help="Put the weights into the package, as the ones that the gateway uses.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@one_line_errors
def main(recipe: Path, data: Path | None, home: Path, encoder: Path | None, ship: bool, as_json: bool) -> None:
    """Train the guard's classifiers and register them.

    Example: python -m training.classifiers recipes/guard-attacks.yaml --data ~/data
    """
    loaded = read_flat(recipe, ClassifierRecipe)
    open_data = read_open_data(data)
    found = train(loaded, open_data, data, _meanings(encoder, open_data))
    draft = ManifestDraft(
        kind="classifier",
        recipe=RecipeRecord(name=recipe.name, settings=loaded.model_dump(mode="json")),
        data=found.digests,
        code_version=code_version(),
        evaluation=found.evaluation,
        license=loaded.license,
    )
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as work:
        folder = Path(work) / "checkpoint"
        folder.mkdir()
        save(folder / WEIGHTS.name, found.weights)
        (folder / CARD).write_text(json.dumps(found.card, indent=2) + "\n")
        if ship:
            shutil.copyfile(folder / WEIGHTS.name, WEIGHTS)
            shutil.copyfile(folder / CARD, WEIGHTS.with_name(CARD))
        checkpoint = Registry(home / "registry", home / "keys").register(folder, loaded.name, draft)
    result = {"ref": checkpoint.ref, "digest": checkpoint.digest, "path": str(checkpoint.path), **found.evaluation}
    click.echo(json.dumps(result) if as_json else f"{checkpoint.ref}: {len(found.weights.models)} categories trained")


def _meanings(encoder: Path | None, data: OpenData) -> Meanings:
    if encoder is None:
        return load(WEIGHTS).meanings
    # It needs torch.
    from training.classifiers.meanings import distill

    return distill(encoder, data)


if __name__ == "__main__":
    main()
