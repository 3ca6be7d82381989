from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from training.errors import RecipeError, SourceError
from training.evaluate import resolve_source
from training.evaluate.loading import load_model, load_tokenizer
from training.methods import merging
from training.outcome import Outcome
from training.registry import ManifestDraft, Registry

Run = Callable[..., Outcome]
REPOSITORY = Path(__file__).parents[3]
IDS = torch.tensor([[1, 50, 60, 70, 2, 33]])


@pytest.fixture
def run(train: Callable[..., Outcome], tiny: Registry, tmp_path: Path) -> Run:
    """Merge with some settings; the heldout chats lie beside the recipe."""

    def run(*settings: str) -> Outcome:
        path = tmp_path / "merge.yaml"
        path.write_text("method: merge\nname: merged\n")
        return train(path, *settings)

    return run


@pytest.fixture
def brothers(tiny: Registry, tiny_model_folder: Path, tmp_path: Path) -> list[dict[str, torch.Tensor]]:
    """`one` and `two`: what small steps from `tiny` led to."""
    found = []
    for number, name in enumerate(("one", "two")):
        model = load_model(resolve_source("tiny", tiny, False), torch.float32)
        torch.manual_seed(number)
        for parameter in model.parameters():
            parameter.data += torch.randn_like(parameter) * 0.05
        folder = shutil.copytree(tiny_model_folder, tmp_path / name)
        model.to(torch.bfloat16).save_pretrained(folder)
        tiny.register(folder, name, ManifestDraft(kind="merged", license="Apache-2.0"))
        found.append({key: value.float() for key, value in model.state_dict().items()})
    return found


def merged_weights(store: Registry, name: str = "merged") -> dict[str, torch.Tensor]:
    model = load_model(resolve_source(name, store, False), torch.float32)
    return dict(model.state_dict())


def logits(store: Registry, name: str) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = load_model(resolve_source(name, store, False), torch.float32)(IDS).logits
    return result


def test_linear_is_the_weighted_mean_and_all_are_measured(
    run: Run, brothers: list[dict[str, torch.Tensor]], tiny: Registry, write_chats: Callable[..., Path]
) -> None:
    write_chats("heldout.jsonl", [("Is it open?", "Until ten.")])

    outcome = run("how=linear", "parents=[one, two]", "weights=[3, 1]", "data.heldout=heldout.jsonl")

    weights = merged_weights(tiny)
    for name, value in weights.items():
        expected = (0.75 * brothers[0][name] + 0.25 * brothers[1][name]).to(torch.bfloat16).float()
        assert torch.equal(value, expected), name
    assert outcome.checkpoint is not None
    manifest = outcome.checkpoint.manifest
    assert (manifest.kind, manifest.license) == ("merged", "Apache-2.0")
    assert [parent.ref for parent in manifest.parents] == ["one@1", "two@1"]
    assert list(outcome.report["perplexity"]) == ["one@1", "two@1", "merged"]  # type: ignore[arg-type]
    assert manifest.evaluation["perplexity_of_one@1"] == outcome.report["perplexity"]["one@1"]  # type: ignore[index,call-overload]
    assert [digest.role for digest in manifest.data] == ["heldout"]
    assert manifest.tokenizer_digest == tiny.resolve("tiny").manifest.tokenizer_digest


def test_slerp_keeps_the_ends_and_the_length() -> None:
    first, second = torch.randn(8, 8), torch.randn(8, 8)
    second *= first.norm() / second.norm()

    assert torch.allclose(merging.slerp(first, second, 0.0), first, atol=1e-6)
    assert torch.allclose(merging.slerp(first, second, 1.0), second, atol=1e-6)
    assert merging.slerp(first, second, 0.3).norm() == pytest.approx(float(first.norm()), rel=1e-5)
    assert torch.allclose(merging.slerp(first, first, 0.4), first)
    assert torch.equal(merging.slerp(torch.zeros(3), torch.zeros(3), 0.5), torch.zeros(3))


def test_ties_on_a_case_made_by_hand() -> None:
    base = torch.tensor([1.0, 1.0, 1.0, 1.0])
    deltas = [torch.tensor([4.0, -3.0, 0.1, 0.0]), torch.tensor([2.0, 5.0, 0.0, 0.2])]

    found = merging.ties(base, [base + delta for delta in deltas], [0.5, 0.5], density=0.5, scale=1.0)

    # Of each, two entries stay. Signs elected: +, + (5 beats -3); means over those that agree.
    assert torch.allclose(found, torch.tensor([1 + 3.0, 1 + 5.0, 1.0, 1.0]))


def test_dare_keeps_the_expectation_and_its_seed() -> None:
    base, other = torch.zeros(200, 200), torch.ones(200, 200)

    found = merging.dare(base, [other], [1.0], 0.25, 1.0, (1, "w"))

    assert set(found.unique().tolist()) == {0.0, 4.0}
    assert float(found.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(found, merging.dare(base, [other], [1.0], 0.25, 1.0, (1, "w")))
    assert not torch.equal(found, merging.dare(base, [other], [1.0], 0.25, 1.0, (2, "w")))


@pytest.mark.parametrize("how", ["ties", "dare"])
def test_all_differences_of_one_parent_give_that_parent(
    run: Run, brothers: list[dict[str, torch.Tensor]], tiny: Registry, how: str
) -> None:
    outcome = run(f"how={how}", "base=tiny", "parents=[one]", "density=1", "weights=[1]")

    for name, value in merged_weights(tiny).items():
        assert torch.allclose(value, brothers[0][name], atol=1e-2, rtol=1e-2)
    assert outcome.checkpoint is not None
    assert [parent.ref for parent in outcome.checkpoint.manifest.parents] == ["tiny@1", "one@1"]


def test_equal_experts_with_zero_routers_are_the_dense_model(run: Run, tiny: Registry) -> None:
    run("how=experts", "parents=[tiny, tiny, tiny]", "experts_per_token=3")

    config = json.loads((tiny.resolve("merged").path / "config.json").read_bytes())
    assert (config["model_type"], config["num_local_experts"]) == ("mixtral", 3)
    assert torch.allclose(logits(tiny, "merged"), logits(tiny, "tiny"), atol=1e-3)


def test_routers_of_hidden_means_send_each_domain_to_its_expert(
    run: Run, brothers: Any, tiny: Registry, write_chats: Callable[..., Path]
) -> None:
    write_chats("a.jsonl", [("aaaa aaaa", "aaaa aaa")])
    write_chats("b.jsonl", [("1234 5678", "9012 3456")])

    outcome = run("how=experts", "parents=[one, two]", "base=tiny", "routing=[a.jsonl, b.jsonl]", "experts_per_token=1")

    assert outcome.notes[0].startswith("Routers are hidden means")
    source = resolve_source("merged", tiny, False)
    model: Any = load_model(source, torch.float32)
    tokenizer = load_tokenizer(source.path)
    with torch.no_grad():
        scores = [
            model(torch.tensor([tokenizer(text)["input_ids"]]), output_router_logits=True).router_logits[-1].mean(0)
            for text in ("aaaaaaaaa", "123456789")
        ]
    assert scores[0].argmax() == 0
    assert scores[1].argmax() == 1


def test_an_adapter_is_folded_into_its_base(run: Run, train: Any, tiny: Registry, recipe_path: Path) -> None:
    train(recipe_path, "output=adapter", "steps=4")

    outcome = run("how=adapter", "parents=[desk]", "data.heldout=heldout.jsonl")

    assert outcome.checkpoint is not None
    assert [parent.ref for parent in outcome.checkpoint.manifest.parents] == ["tiny@1", "desk@1"]
    values: Any = outcome.report["perplexity"]
    assert values["merged"] == pytest.approx(values["desk@1"], rel=0.05)
    assert values["merged"] < values["tiny@1"] / 1.2
    with pytest.raises(SourceError, match=r"^desk@1 is adapter and cannot be merged; fold it into its base first"):
        run("how=linear", "parents=[tiny, desk]")
    with pytest.raises(SourceError, match=r"^tiny@1 is not an adapter"):
        run("how=adapter", "parents=[tiny]")


def test_what_does_not_fit_is_one_line_and_registers_nothing(
    run: Run, tiny: Registry, tiny_model_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    config = AutoConfig.from_pretrained(tiny_model_folder)
    for name, key, value in (
        ("wide", "intermediate_size", 96),
        ("turned", "rope_parameters", {"rope_theta": 5e5, "rope_type": "default"}),
    ):
        folder = shutil.copytree(tiny_model_folder, tmp_path / name)
        other = type(config)(**{**config.to_dict(), key: value})
        LlamaForCausalLM(other).save_pretrained(folder)
        tiny.register(folder, name, ManifestDraft(kind="base"))
    folder = shutil.copytree(tiny_model_folder, tmp_path / "other-words")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["new"])
    tokenizer.save_pretrained(folder)
    tiny.register(folder, "other-words", ManifestDraft(kind="base"))
    before = len(list(tiny.list()))

    for name, why in (
        ("wide", "intermediate_size is 64 and 96"),
        ("turned", "rope_"),
        ("other-words", "their tokenizers"),
    ):
        with pytest.raises(SourceError, match=rf"^tiny@1 and {name}@1 do not fit: {why}[^\n]*$"):
            run("how=linear", f"parents=[tiny, {name}]")

    assert len(list(tiny.list())) == before


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (("how=linear", "parents=[tiny]"), "takes at least 2 parents, not 1"),
        (("how=slerp", "parents=[tiny, tiny, tiny]"), "takes 2 parents, not 3"),
        (("how=ties", "parents=[tiny]"), "needs base"),
        (("how=linear", "parents=[tiny, tiny]", "density=0.5"), "density is for how: ties or dare"),
        (("how=linear", "parents=[tiny, tiny]", "weights=[1]"), "1 weights for 2 parents"),
        (("how=linear", "parents=[tiny, tiny]", "weights=[0, 0]"), "weights must not be negative, nor all zero"),
        (("how=experts", "parents=[tiny, tiny, tiny]"), "without routing all routers are zero"),
        (("how=experts", "parents=[tiny, tiny]", "experts_per_token=3"), "3 of 2 experts"),
    ],
)
def test_settings_without_sense_are_refused(run: Run, settings: tuple[str, ...], fault: str) -> None:
    with pytest.raises(RecipeError, match=fault):
        run(*settings)


def test_other_licences_must_be_settled(run: Run, tiny: Registry, tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "mit")
    (folder / "LICENSE").write_text("MIT")
    tiny.register(folder, "mit", ManifestDraft(kind="base", license="MIT"))

    with pytest.raises(RecipeError, match=r"the parents have the licences Apache-2\.0 and MIT: set license"):
        run("how=linear", "parents=[tiny, mit]")

    outcome = run("how=linear", "parents=[tiny, mit]", "license=Apache-2.0 AND MIT")
    assert outcome.checkpoint is not None
    assert outcome.checkpoint.manifest.license == "Apache-2.0 AND MIT"


def test_the_shipped_recipe_runs(train: Any, brothers: Any, tiny: Registry, write_chats: Callable[..., Path]) -> None:
    heldout = write_chats("heldout.jsonl", [("Is it open?", "Until ten.")])

    outcome = train(REPOSITORY / "recipes" / "merge.yaml", "parents=[one, two]", f"data.heldout={heldout}")

    assert outcome.checkpoint is not None
    assert outcome.checkpoint.ref == "support-desk-mixed@1"
