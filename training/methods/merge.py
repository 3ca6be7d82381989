"""Merging: one model out of several of one architecture, tensor by tensor, or out of a base and its adapter."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from training.data import ChatEncoder, Example, encode_all, read_chats
from training.disk import work_folder
from training.errors import RecipeError, SourceError, TrainingError
from training.evaluate.loading import load_chat_tokenizer, load_model, load_tokenizer, padding_token, stored_dtype
from training.evaluate.measurement import Measurement, measure_source
from training.evaluate.source import Source
from training.methods import adapters, agreement, merging
from training.methods.experts import mixtral_config, mixture, routers_from_means
from training.methods.register import register
from training.methods.tensor_files import TensorFolder, TensorLayout, write_tensors
from training.outcome import Context, Outcome, Stopwatch, next_steps
from training.progress import track
from training.recipes.merge import MergeData, MergeRecipe
from training.registry import DataDigest, Kind

# What a configuration may say otherwise without meaning another model.
_OF_NO_CONSEQUENCE = frozenset({
    "_name_or_path", "architectures", "bos_token_id", "dtype", "eos_token_id", "pad_token_id", "transformers_version",
    "torch_dtype", "use_cache", "initializer_range", "pretraining_tp", "signet_thresholds",
    "signet_always_labelled", "output_attentions",
    "output_hidden_states", "return_dict", "attention_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob",
    "classifier_dropout", "chunk_size_feed_forward", "gradient_checkpointing", "is_llama_config", "rope_interleaved",
    "transformers.js_config",
})  # fmt: skip
# Of each domain: enough for a mean.
_ROUTING_CHATS = 64


def run(recipe: MergeRecipe, context: Context) -> Outcome:
    """Merge, measure and register; whatever interrupts it, nothing is registered half."""
    return _Run(recipe, context).run()


class _Run:
    """One merge. `run()` reads top to bottom as what happens."""

    def __init__(self, recipe: MergeRecipe, context: Context) -> None:
        self.recipe = recipe
        self.context = context
        self.parents = [context.find_model(ref) for ref in recipe.parents]
        self.base = self._find_base()
        self.sources = list(
            {source.identity.digest: source for source in (self.base, *self.parents) if source is not None}.values()
        )
        self._check_license()

    def run(self) -> Outcome:
        watch = Stopwatch()
        note = ""
        with work_folder(self.context.home) as folder:
            if self.recipe.how == "adapter":
                self._fold(folder)
            else:
                note = self._merge(folder)
            measured = self._measure(folder)
            return self._register(folder, measured, note, watch)

    def _find_base(self) -> Source | None:
        if self.recipe.how == "adapter":
            adapter = self.parents[0]
            if adapter.base is None:
                raise SourceError(f"{adapter.identity.ref} is not an adapter: how: adapter folds one into its base")
            return adapter.base
        for source in self.parents:
            if source.kind in ("adapter", "quantized", "tokenizer"):
                hint = "; fold it into its base first (how: adapter)" if source.kind == "adapter" else ""
                raise SourceError(f"{source.identity.ref} is {source.kind} and cannot be merged{hint}")
        if self.recipe.base is not None:
            return self.context.find_model(self.recipe.base)
        return self.parents[0] if self.recipe.how == "experts" else None

    def _check_license(self) -> None:
        known = {s.checkpoint.manifest.license for s in self.sources if s.checkpoint is not None} - {None}
        if len(known) > 1 and self.recipe.license is None:
            names = " and ".join(sorted(str(name) for name in known))
            raise RecipeError(f"the parents have the licences {names}: set license to the result's licence")

    def _fold(self, folder: Path) -> None:
        adapter, base = self.parents[0], self.base
        assert base is not None  # found in __init__
        model: Any = load_model(adapter, torch.float32)
        examples = probes(base, self.recipe.data, self.context, self.recipe.seed)
        outputs = agreement.chat_outputs(examples, padding_token(load_tokenizer(base)))
        dtype = stored_dtype(base)
        merged = agreement.merge(model, dtype, outputs)
        agreement.write(merged, base, "merged", dtype, outputs, folder)

    def _merge(self, folder: Path) -> str:
        """Write the merged model; returns a line on how it was done, where there is something to say."""
        opened = [TensorFolder(source.path, source.identity.ref) for source in self.sources]
        require_one_shape(self.sources, opened)
        tensors = {source.identity.digest: file for source, file in zip(self.sources, opened, strict=True)}
        first = self.base or self.parents[0]
        config, note = json.loads((first.path / "config.json").read_bytes()), ""
        if self.recipe.how == "experts":
            config = mixtral_config(first, len(self.parents), self.recipe.experts_per_token)
            routers, note = self._routers(first)
            ordered = [tensors[parent.identity.digest] for parent in self.parents]
            layouts, make = mixture(tensors[first.identity.digest], ordered, routers, first.identity.ref)
        else:
            layouts, make = tensors[first.identity.digest].layout, self._arithmetic(tensors)
        with track(f"Merging {self.recipe.name}", self.context.show) as progress:
            write_tensors(folder, layouts, _finite(make), progress)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        adapters.copy_companions(first.path, folder)
        return note

    def _routers(self, base: Source) -> tuple[list[torch.Tensor] | None, str]:
        if self.recipe.routing is None:
            return None, "Routers are zero: every expert works on each token, with equal weight."
        encoder = ChatEncoder(load_chat_tokenizer(base), self.recipe.data.max_tokens)
        domains = [
            encode_all(encoder, read_chats(self.context.path(path)).items[:_ROUTING_CHATS])
            for path in self.recipe.routing
        ]
        with track("Measuring hidden means", self.context.show):
            return routers_from_means(base, domains), "Routers are hidden means of each parent's chats."

    def _arithmetic(self, tensors: dict[str, TensorFolder]) -> Callable[[str], torch.Tensor]:
        recipe = self.recipe
        parents = [tensors[parent.identity.digest] for parent in self.parents]
        weights = recipe.weights or [1 / len(parents)] * len(parents)

        def make(name: str) -> torch.Tensor:
            first = parents[0][name]
            if not first.is_floating_point():
                return first  # tables of positions, the same in all
            # In fp32, rounded once at the end, when the tensor is written in its own type.
            values = [first.float(), *(parent[name].float() for parent in parents[1:])]
            if recipe.how == "linear":
                return merging.linear(values, weights)
            if recipe.how == "slerp":
                return merging.slerp(values[0], values[1], recipe.t)
            assert self.base is not None  # the recipe has one
            base = tensors[self.base.identity.digest][name].float()
            if recipe.how == "ties":
                return merging.ties(base, values, weights, recipe.density, recipe.scale)
            return merging.dare(base, values, weights, recipe.density, recipe.scale, (recipe.seed, name))

        return make

    def _measure(self, folder: Path) -> dict[str, Measurement]:
        """The perplexity of every parent and of the result, by name; nothing where there are no held-out chats."""
        heldout = self.recipe.data.heldout
        if heldout is None:
            return {}
        result = agreement.written(folder)
        path, most = self.context.path(heldout), self.recipe.data.max_tokens
        measured = {
            source.identity.ref: measure_source(source, path, most, self.context.show) for source in self.sources
        }
        measured[self.recipe.name] = measure_source(result, path, most, self.context.show)
        if not math.isfinite(measured[self.recipe.name].perplexity.value):
            raise TrainingError(f"{self.recipe.name} has no finite perplexity: nothing was registered")
        return measured

    def _register(self, folder: Path, measured: dict[str, Measurement], note: str, watch: Stopwatch) -> Outcome:
        def write(target: Path) -> None:
            for path in folder.iterdir():
                shutil.move(path, target / path.name)

        values = {ref: measurement.perplexity.value for ref, measurement in measured.items()}
        evaluation: dict[str, float] = {}
        data: list[DataDigest] = []
        tokens = 0
        if measured:
            own = measured[self.recipe.name]
            tokens = own.perplexity.tokens * len(measured)
            assert self.recipe.data.heldout is not None  # else nothing was measured
            data = own.digests(self.recipe.data.heldout)
            evaluation = {"perplexity_after": values[self.recipe.name], "heldout_tokens": own.perplexity.tokens}
            evaluation |= {f"perplexity_of_{ref}": value for ref, value in values.items() if ref != self.recipe.name}
        checkpoint = register(
            write,
            self.recipe,
            self.context,
            kind=self._kind(),
            base=self.base,
            parents=self.sources,
            data=data,
            evaluation=evaluation,
            show=self.context.show,
        )
        said = ", ".join(f"{ref} {value:.2f}" for ref, value in values.items())
        names = ", ".join(source.identity.ref for source in self.parents)
        return Outcome(
            checkpoint=checkpoint,
            summary=f"held-out perplexity {said}" if said else f"{self.recipe.how} of {names}, not measured",
            cost=watch.cost(tokens),
            notes=[*([note] if note else []), *next_steps(checkpoint)],
            report={"perplexity": dict(values)},
        )

    def _kind(self) -> Kind:
        kinds = {parent.kind for parent in self.parents}
        return "classifier" if kinds == {"classifier"} else "merged"


def probes(base: Source, data: MergeData, context: Context, seed: int) -> list[Example]:
    """Held-out chats to compare logits on, or tokens drawn at random."""
    if data.heldout is not None:
        encoder = ChatEncoder(load_chat_tokenizer(base), data.max_tokens)
        return encode_all(encoder, read_chats(context.path(data.heldout)).items)
    # Any tokens will do: folded weights must answer alike on all of them.
    vocabulary = AutoConfig.from_pretrained(base.path, local_files_only=True).vocab_size
    rows = torch.randint(vocabulary, (4, 32), generator=torch.Generator().manual_seed(seed)).tolist()
    return [Example(row, row, "random tokens") for row in rows]


def require_one_shape(sources: Sequence[Source], opened: Sequence[TensorFolder]) -> None:
    """Raise SourceError, one line, unless all are one architecture with one tokenizer."""
    first, *others = sources
    vocabulary = load_tokenizer(first).get_vocab() if others else {}
    for source, tensors in zip(others, opened[1:], strict=True):
        pair = f"{first.identity.ref} and {source.identity.ref} do not fit"
        setting = _other_setting(first.path, source.path)
        if setting is not None:
            raise SourceError(f"{pair}: {setting}")
        odd = _other_shape(opened[0].layout, tensors.layout)
        if odd is not None:
            raise SourceError(f"{pair}: {odd}")
        if load_tokenizer(source).get_vocab() != vocabulary:
            raise SourceError(f"{pair}: their tokenizers differ")


def _other_setting(first: Path, other: Path) -> str | None:
    ours, theirs = (AutoConfig.from_pretrained(path, local_files_only=True).to_dict() for path in (first, other))
    for name in sorted((ours.keys() | theirs.keys()) - _OF_NO_CONSEQUENCE):
        if ours.get(name) != theirs.get(name):
            return f"{name} is {ours.get(name)} and {theirs.get(name)}"
    return None


def _other_shape(ours: dict[str, TensorLayout], theirs: dict[str, TensorLayout]) -> str | None:
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            return f"{name} is in one of them only"
        if ours[name].shape != theirs[name].shape:
            return f"{name} is {list(ours[name].shape)} and {list(theirs[name].shape)}"
    return None


def _finite(make: Callable[[str], torch.Tensor]) -> Callable[[str], torch.Tensor]:
    def checked(name: str) -> torch.Tensor:
        tensor = make(name)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise TrainingError(f"{name} is no longer finite: lower weights or scale; nothing was registered")
        return tensor

    return checked
