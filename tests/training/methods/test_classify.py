from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.tiny_bert import write_tiny_bert
from training.errors import DataError, RecipeError, SourceError
from training.evaluate import resolve_source
from training.evaluate.measurement import measure_classifier
from training.lexical import ARCHITECTURE
from training.methods import adapters, classify
from training.methods.classify import begin_at_frequencies
from training.methods.upper_layers import UpperLayersObjective
from training.outcome import Outcome
from training.registry import ManifestDraft, Registry

Train = Callable[..., Outcome]

RECIPES = Path(__file__).parents[3] / "recipes"
RECIPE = """\
method: classify
name: kind
base: tiny
data: {train: train.jsonl, heldout: heldout.jsonl, max_tokens: 32}
steps: 25
batch_size: 8
optimizer: {learning_rate: 5.0e-3}
"""


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Texts of many a or many b."""
    for name, start, count in (("train", 0, 40), ("heldout", 100, 12)):
        rows = [
            {"text": "ab"[number % 2] * 9 + str(number), "label": "ab"[number % 2]}
            for number in range(start, start + count)
        ]
        write(tmp_path / f"{name}.jsonl", rows)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def several(recipe: Path) -> Path:
    """Texts with a, b, both or neither."""
    for name, start, count in (("train", 0, 80), ("heldout", 100, 16)):
        kinds = [
            ("a" * 9 if number & 1 else "") + ("b" * 9 if number & 2 else "") for number in range(start, start + count)
        ]
        rows = [
            {"text": f"{kind} {number}", "labels": sorted(set(kind))}
            for number, kind in zip(range(start, start + count), kinds, strict=True)
        ]
        write(recipe.with_name(f"{name}.jsonl"), rows)
    return recipe


def spell(recipe: Path) -> Path:
    """Write the texts letter by letter: the tiny encoder knows no digits, and no words like these."""
    for name in ("train", "heldout"):
        path = recipe.with_name(f"{name}.jsonl")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        letters = str.maketrans("0123456789", "cdefghijkl", " ")
        write(path, [{**row, "text": " ".join(row["text"].translate(letters))} for row in rows])
    return recipe


@pytest.fixture
def bert(tiny: Registry, tmp_path: Path) -> Registry:
    """A registry that holds an encoder of two layers, `bert@1`."""
    tiny.register(write_tiny_bert(tmp_path / "bert"), "bert", ManifestDraft(kind="embedder", license="MIT"))
    return tiny


@pytest.mark.parametrize("adapter", ["adapter=null", "adapter=lora"])
def test_learns_registers_and_is_measured_again_as_its_manifest_says(
    train: Train, recipe: Path, tiny: Registry, adapter: str, tmp_path: Path
) -> None:
    outcome = train(recipe, adapter, "seed=1")

    assert outcome.checkpoint is not None
    manifest = outcome.checkpoint.manifest
    assert (manifest.kind, manifest.license) == ("classifier", "Apache-2.0")
    assert [(digest.rows, digest.role) for digest in manifest.data] == [(40, "train"), (12, "heldout")]
    assert manifest.evaluation["accuracy"] > 0.85
    source = resolve_source("kind", tiny, show_progress=False)
    again = measure_classifier(source, tmp_path / "heldout.jsonl", 32, tmp_path / "out.jsonl", show_progress=False)
    assert again.measured.figures().items() <= manifest.evaluation.items()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    right = [line["label"] for line in lines] == ["a", "b"] * 6
    assert right is (manifest.evaluation["accuracy"] == 1)
    assert all(sum(line["scores"].values()) == pytest.approx(1, abs=1e-4) for line in lines)


@pytest.mark.parametrize("adapter", ["adapter=dora", "adapter=ia3"])
def test_other_kinds_of_adapters(train: Train, recipe: Path, tiny: Registry, adapter: str) -> None:
    outcome = train(recipe, adapter, "seed=1", "steps=5")

    losses = outcome.report["losses"]
    assert losses[-1] < losses[0]  # type: ignore[index,call-overload,operator]


def test_upper_layers_learn_and_lower_ones_stay(train: Train, recipe: Path, tiny: Registry) -> None:
    outcome = train(recipe, "layers=1", "seed=1")

    assert outcome.checkpoint is not None
    assert outcome.checkpoint.manifest.evaluation["accuracy"] > 0.85
    before = load_file(resolve_source("tiny", tiny, show_progress=False).path / "model.safetensors")
    after = load_file(outcome.checkpoint.path / "model.safetensors")
    changed = {name for name, weight in after.items() if name in before and not torch.equal(weight, before[name])}
    assert changed
    assert all(name.startswith(("model.layers.1.", "model.norm.")) for name in changed)


def test_remembered_lower_layers_give_the_losses_of_computed_ones(
    train: Train, recipe: Path, tiny: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def computed(objective: UpperLayersObjective) -> Iterator[None]:
        yield

    remembered = train(recipe, "layers=1", "steps=6").report["losses"]
    monkeypatch.setattr(UpperLayersObjective, "_lower_passed_over", computed)

    again = train(recipe, "layers=1", "steps=6", "name=again").report["losses"]
    assert remembered == pytest.approx(again, rel=1e-5)


def test_more_layers_than_there_are(train: Train, recipe: Path, tiny: Registry) -> None:
    with pytest.raises(RecipeError, match="layers: the model has 2; leave this setting out to train all of them"):
        train(recipe, "layers=2")


def test_a_head_of_several_labels_begins_at_their_frequencies() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    has = torch.tensor([[1.0, 0.0]] * 98)

    begin_at_frequencies(model, has)

    assert model[1].bias.sigmoid().tolist() == pytest.approx([0.99, 0.01])


def test_training_prints_nothing_of_transformers(
    train: Train, recipe: Path, tiny: Registry, capfd: pytest.CaptureFixture[str]
) -> None:
    train(recipe, "steps=1")

    assert "LOAD REPORT" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("part", ["fold", "copy_companions"])
def test_a_classifier_that_merging_or_writing_spoils_is_not_registered(
    train: Train, recipe: Path, tiny: Registry, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    do = getattr(adapters, part)

    def spoil(*arguments: Any) -> Any:
        done = do(*arguments)
        if part == "fold":
            done.score.weight.data[0] *= -1
        else:
            path = arguments[1] / "model.safetensors"
            weights = load_file(path)
            save_file({**weights, "score.weight": -weights["score.weight"]}, path, metadata={"format": "pt"})
        return done

    monkeypatch.setattr(adapters, part, spoil)
    with pytest.raises(RecipeError, match="its outputs differ by"):
        train(recipe, "adapter=lora", "steps=3")


def test_several_labels_a_text(train: Train, several: Path, tiny: Registry, tmp_path: Path) -> None:
    outcome = train(several, "steps=60")

    assert outcome.report["labels"] == ["a", "b"]
    assert outcome.report["macro_f1"] > 0.9
    source = resolve_source("kind", tiny, show_progress=False)
    again = measure_classifier(source, tmp_path / "heldout.jsonl", 32, tmp_path / "out.jsonl", show_progress=False)
    assert outcome.checkpoint is not None
    assert again.measured.figures().items() <= outcome.checkpoint.manifest.evaluation.items()
    assert all(
        isinstance(json.loads(line)["labels"], list) for line in (tmp_path / "out.jsonl").read_text().splitlines()
    )


def test_a_head_is_fitted_on_the_means_of_a_cut_encoder(
    train: Train, recipe: Path, bert: Registry, tmp_path: Path
) -> None:
    outcome = train(spell(recipe), "base=bert", "depth=1", "pooling=mean", "head=fitted", "steps=null")

    assert outcome.checkpoint is not None
    figures = outcome.checkpoint.manifest.evaluation
    assert figures["accuracy"] == 1
    assert figures["last_loss"] < figures["first_loss"]
    before = load_file(resolve_source("bert", bert, show_progress=False).path / "model.safetensors")
    after = load_file(outcome.checkpoint.path / "model.safetensors")
    kept = [name for name in before if "layer.0" in name or name.startswith("embeddings")]
    assert kept
    assert all(torch.equal(before[name], after[f"bert.{name}"]) for name in kept)
    config = json.loads((outcome.checkpoint.path / "config.json").read_bytes())
    assert (config["num_hidden_layers"], config["architectures"]) == (2, ["BertForSequenceClassification"])
    source = resolve_source("kind", bert, show_progress=False)
    again = measure_classifier(source, tmp_path / "heldout.jsonl", 32, show_progress=False)
    assert again.measured.figures().items() <= figures.items()


def test_tokens_are_read_beside_the_encoder(train: Train, several: Path, bert: Registry, tmp_path: Path) -> None:
    outcome = train(spell(several), "base=bert", "depth=1", "pooling=mean", "head=fitted", "lexical=true", "steps=null")
    train(several, "base=bert", "depth=1", "pooling=mean", "head=fitted", "steps=null", "name=plain")

    assert outcome.checkpoint is not None
    figures = outcome.checkpoint.manifest.evaluation
    assert figures["macro_f1"] == 1
    config = json.loads((outcome.checkpoint.path / "config.json").read_bytes())
    assert (config["model_type"], config["architectures"]) == ("signet_lexical_bert", [ARCHITECTURE])
    source = resolve_source("kind", bert, show_progress=False)
    again = measure_classifier(source, tmp_path / "heldout.jsonl", 32, show_progress=False)
    assert again.measured.figures().items() <= figures.items()
    # What the encoder says is said by the same weights: the tokens alone make the difference.
    plain = load_file(resolve_source("plain", bert, show_progress=False).path / "model.safetensors")
    lexical = load_file(outcome.checkpoint.path / "model.safetensors")
    assert lexical.keys() - plain.keys() == {"lexical.idf", "lexical.weight"}
    assert all(torch.equal(plain[name], lexical[name]) for name in plain if not name.startswith("classifier"))


def test_a_head_is_fitted_anew_on_a_classifier_that_reads_tokens(train: Train, recipe: Path, bert: Registry) -> None:
    train(spell(recipe), "base=bert", "head=fitted", "lexical=true", "steps=null")

    again = train(recipe, "base=kind", "head=fitted", "steps=null", "name=again")

    assert again.checkpoint is not None
    config = json.loads((again.checkpoint.path / "config.json").read_bytes())
    assert config["architectures"] == ["BertForSequenceClassification"]


def test_thresholds_of_a_fitted_head_are_chosen_on_texts_that_are_learned_from(
    train: Train, several: Path, bert: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On what heads say of them that were fitted without them, so that none has to be kept back."""
    fitted_on = []
    fit = classify.fit_head

    def noted(inputs: torch.Tensor, *others: Any) -> Any:
        fitted_on.append(len(inputs))
        return fit(inputs, *others)

    monkeypatch.setattr(classify, "fit_head", noted)
    made = train(spell(several), "base=bert", "pooling=mean", "head=fitted", "steps=null").checkpoint

    assert fitted_on == [80]
    assert made is not None
    config = json.loads((made.path / "config.json").read_bytes())
    assert len(config["signet_thresholds"]) == 2


def test_training_goes_on_from_a_fitted_head(train: Train, several: Path, bert: Registry) -> None:
    begun = train(spell(several), "base=bert", "pooling=mean", "head=fitted", "layers=1", "steps=3")
    new = train(several, "base=bert", "pooling=mean", "layers=1", "steps=3")

    assert begun.report["losses"][0] < new.report["losses"][0]  # type: ignore[index]


def test_a_classifier_that_reads_means_learns_on(train: Train, recipe: Path, bert: Registry) -> None:
    train(recipe, "base=bert", "pooling=mean", "head=fitted", "steps=null")

    again = train(recipe, "base=kind", "pooling=mean", "steps=1", "name=again")

    assert again.checkpoint is not None
    config = json.loads((again.checkpoint.path / "config.json").read_bytes())
    assert config["num_hidden_layers"] == 3


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (["base=bert", "depth=3"], "depth: the model has 2 layers"),
        (["pooling=mean"], "pooling: mean is for BERT-like encoders, and this is a LlamaForSeq"),
        (["head=fitted"], "needs a head with a bias, and LlamaForSequenceClassification has none"),
        (["head=fitted", "privacy={epsilon: 8}"], "privacy: a fitted head is found without noise"),
        (["steps=null"], "say how long to train"),
        (["lexical=true"], "lexical: what tokens say is fitted: set head to fitted"),
        (["lexical=true", "head=fitted"], "lexical: what tokens say is fitted: set head to fitted"),
    ],
)
def test_what_cannot_be_fitted_or_pooled_is_said(
    train: Train, recipe: Path, bert: Registry, settings: list[str], why: str
) -> None:
    with pytest.raises(RecipeError, match=why):
        train(recipe, *settings)


def test_where_every_text_has_a_label_every_text_is_given_one(train: Train, several: Path, tiny: Registry) -> None:
    """The fixture has texts without labels; without these, the nearest label is given."""
    some = train(several, "steps=1", "name=some").checkpoint
    for name in ("train", "heldout"):
        path = several.with_name(f"{name}.jsonl")
        write(path, [row for row in map(json.loads, path.read_text().splitlines()) if row["labels"]])
    every = train(several, "steps=1", "name=every").checkpoint

    assert some is not None
    assert every is not None
    said = [
        json.loads((listed.path / "config.json").read_bytes())["signet_always_labelled"] for listed in (some, every)
    ]
    assert said == [False, True]
    out = several.with_name("out.jsonl")
    source = resolve_source("every", tiny, show_progress=False)
    measure_classifier(source, several.with_name("heldout.jsonl"), 32, out, show_progress=False)
    assert all(json.loads(line)["labels"] for line in out.read_text().splitlines())


@pytest.mark.parametrize("name", ["spam", "pubmedqa", "contracts"])
def test_recipes_run_in_small(train: Train, recipe: Path, several: Path, bert: Registry, name: str) -> None:
    files = [f"data.train={recipe.with_name('train.jsonl')}", f"data.heldout={recipe.with_name('heldout.jsonl')}"]
    written = (RECIPES / f"{name}.yaml").read_text()
    short = ["epochs=null", "steps=2"] if "epochs:" in written else []
    short += ["layers=1"] if "layers:" in written else []

    outcome = train(RECIPES / f"{name}.yaml", *files, "base=bert", "depth=2", *short)

    assert outcome.checkpoint is not None
    assert outcome.checkpoint.manifest.name == name


def test_texts_are_cut_where_they_were_in_training(train: Train, recipe: Path, tiny: Registry) -> None:
    """`signet evaluate` cuts at 512 tokens by default, where the classifier may have learned from the first ten."""
    outcome = train(recipe, "seed=1", "data.max_tokens=10")

    assert outcome.checkpoint is not None
    rows = [{"text": "ab"[number % 2] * 10 + "ba"[number % 2] * 20, "label": "ab"[number % 2]} for number in range(8)]
    write(recipe.with_name("longer.jsonl"), rows)
    source = resolve_source("kind", tiny, show_progress=False)
    measured = measure_classifier(source, recipe.with_name("longer.jsonl"), 512, show_progress=False).measured
    assert measured.accuracy.value == 1


def test_without_held_out_texts_a_part_is_held_out(train: Train, recipe: Path, tiny: Registry) -> None:
    outcome = train(recipe, "data.heldout=null", "data.heldout_fraction=0.3", "steps=1")

    assert outcome.checkpoint is not None
    learned, held = outcome.checkpoint.manifest.data
    assert learned.rows + held.rows == 40
    assert held.rows > 4


def test_a_leak_is_refused_unless_told(train: Train, recipe: Path, tiny: Registry) -> None:
    text = (recipe.parent / "heldout.jsonl").read_text()
    with (recipe.parent / "train.jsonl").open("a") as file:
        file.write(text.splitlines()[0])

    with pytest.raises(DataError, match=r"heldout\.jsonl:1: is held out, and .*train\.jsonl:41 .*\(1 of 12\)"):
        train(recipe)

    assert train(recipe, "data.allow_leaks=true", "steps=1").checkpoint is not None


def test_a_label_never_seen_is_named(train: Train, recipe: Path, tiny: Registry) -> None:
    with (recipe.parent / "heldout.jsonl").open("a") as file:
        file.write('{"text": "c", "label": "c"}')

    with pytest.raises(DataError, match=r"heldout\.jsonl:13: the model was not trained on the label 'c'"):
        train(recipe)


def test_what_is_no_classifier_is_said(tiny: Registry, recipe: Path) -> None:
    source = resolve_source("tiny", tiny, show_progress=False)

    with pytest.raises(SourceError, match="tiny@1 is not a classifier"):
        measure_classifier(source, recipe.parent / "heldout.jsonl", 32, show_progress=False)


def test_a_model_without_weights_takes_no_head(
    train: Train, recipe: Path, tiny: Registry, tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    tiny.register(folder, "empty", ManifestDraft(kind="base"))

    with pytest.raises(SourceError, match=r"^empty@1 takes no classification head: [^\n]*$"):
        train(recipe, "base=empty")
