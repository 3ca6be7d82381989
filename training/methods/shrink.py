"""Shrinking: the difference between a model and its base, or an adapter, as a LoRA adapter of a lower rank.

Of each weight's difference, the singular value decomposition keeps the part that is nearest to it at this rank
(Eckart and Young 1936).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from training.disk import work_folder
from training.errors import SourceError, TrainingError
from training.evaluate.loading import load_model, load_tokenizer, padding_token
from training.evaluate.measurement import Measurement, measure_source
from training.evaluate.source import Source
from training.methods import adapters, agreement
from training.methods.merge import probes, require_one_shape
from training.methods.register import register
from training.methods.tensor_files import TensorFolder
from training.outcome import Context, Outcome, Stopwatch, next_steps
from training.progress import track
from training.recipes.shrink import ShrinkRecipe

_PREFIX = "base_model.model."

Deltas = Mapping[str, Callable[[], torch.Tensor]]
"""Of each linear module: what was added to its weight."""


def run(recipe: ShrinkRecipe, context: Context) -> Outcome:
    """Shrink, measure and register; whatever interrupts it, nothing is registered half."""
    return _Run(recipe, context).run()


def low_rank(delta: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """LoRA's A and B whose product is nearest to `delta`, and the energy that it keeps (squared singular values)."""
    left, values, right = torch.linalg.svd(delta, full_matrices=False)
    kept = min(rank, len(values))
    # Each factor gets the roots, so that A and B are of like size in 16 bits too. Rows beyond `kept` stay zero.
    roots = values[:kept].sqrt()
    a, b = torch.zeros(rank, delta.shape[1]), torch.zeros(delta.shape[0], rank)
    a[:kept], b[:, :kept] = roots[:, None] * right[:kept], left[:, :kept] * roots
    return a, b, float(values[:kept].square().sum())


class _Run:
    """One run of one recipe. `run()` reads top to bottom as what happens."""

    def __init__(self, recipe: ShrinkRecipe, context: Context) -> None:
        self.recipe = recipe
        self.context = context
        self.model = context.find_model(recipe.model)
        self.base = self._find_base()

    def run(self) -> Outcome:
        watch = Stopwatch()
        deltas, left_out = self._adapter() if self.model.base is not None else self._difference()
        with work_folder(self.context.home) as folder:
            energy = self._write(deltas, left_out, folder)
            apart = self._compare(folder)
            return self._register(folder, energy, apart, self._measure(folder), watch)

    def _find_base(self) -> Source:
        model, name = self.model, self.recipe.base
        if model.base is not None:
            if name is not None and self.context.find_model(name).identity.digest != model.base.identity.digest:
                raise SourceError(f"{model.identity.ref} is an adapter of {model.base.identity.ref}, not of {name}")
            return model.base
        if name is None:
            named = model.checkpoint.manifest.base if model.checkpoint is not None else None
            if named is None:
                raise SourceError(f"{model.identity.ref} does not say what it was trained from: set base")
            name = named.digest
        return self.context.find_model(name)

    def _adapter(self) -> tuple[Deltas, float]:
        """What a LoRA adapter adds."""
        ref = self.model.identity.ref
        config = json.loads((self.model.path / "adapter_config.json").read_bytes())
        odd = [name for name in ("use_dora", "rank_pattern", "alpha_pattern") if config.get(name)]
        if config.get("peft_type") != "LORA" or odd:
            raise SourceError(f"{ref} is not a plain LoRA adapter: {', '.join(odd) or config.get('peft_type')}")
        # rsLoRA divides by the root of the rank (Kalajdzievski 2023).
        scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
        tensors = load_file(self.model.path / "adapter_model.safetensors")
        end = ".lora_A.weight"
        names = [name.removeprefix(_PREFIX).removesuffix(end) for name in tensors if name.endswith(end)]
        if 2 * len(names) != len(tensors):
            raise SourceError(f"{ref} holds more than LoRA's two matrices of each module")

        def added(name: str) -> torch.Tensor:
            b, a = (tensors[f"{_PREFIX}{name}.lora_{part}.weight"].float() for part in "BA")
            return scale * (b @ a)

        return {name: lambda name=name: added(name) for name in names}, 0.0

    def _difference(self) -> tuple[Deltas, float]:
        """What training added to linear modules, and the energy of what it changed elsewhere."""
        if self.model.kind == "quantized" or self.base.kind == "quantized":
            raise SourceError("a quantized model cannot be shrunk: use the model that it was made from")
        sources = [self.base, self.model]
        base, model = opened = [TensorFolder(source.path, source.identity.ref) for source in sources]
        require_one_shape(sources, opened)
        linear = {f"{name}.weight" for name in _linear_modules(self.base.path)}

        def added(name: str) -> torch.Tensor:
            return model[name].float() - base[name].float()

        # Norms and embeddings: LoRA cannot hold what they changed, which counts as lost.
        others = sum(float(added(n).square().sum()) for n in base.layout if n not in linear)
        names = [name for name in base.layout if name in linear]
        return {name.removesuffix(".weight"): lambda name=name: added(name) for name in names}, others

    def _write(self, deltas: Deltas, left_out: float, folder: Path) -> float:
        """Write the adapter; returns the part of all energy that it keeps."""
        rank, kept, total = self.recipe.rank, 0.0, left_out
        tensors: dict[str, torch.Tensor] = {}
        changed = set()
        with track("Decomposing", self.context.show) as progress:
            for done, (name, make) in enumerate(deltas.items(), start=1):
                delta = make()
                a, b, energy = low_rank(delta, rank)
                tensors |= {f"{_PREFIX}{name}.lora_A.weight": a, f"{_PREFIX}{name}.lora_B.weight": b}
                kept, total = kept + energy, total + float(delta.square().sum())
                if energy:
                    changed.add(name.rpartition(".")[2])
                progress(done, len(deltas))
        if not total or not math.isfinite(total):
            raise TrainingError(f"{self.model.identity.ref} and its base do not differ, or not by finite numbers")
        if not changed:
            raise TrainingError(f"{self.model.identity.ref} does not differ from its base in any linear module")
        # peft finds modules by the end of their names: all that are called so need both matrices, some of zeros.
        wanted = {name: value for name, value in tensors.items() if name.split(".")[-3] in changed}
        save_file(wanted, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        LoraConfig(
            task_type="CAUSAL_LM",
            r=rank,
            # A scale of 1: the factors hold the difference itself.
            lora_alpha=rank,
            target_modules=sorted(changed),
            base_model_name_or_path=self.base.identity.ref,
            inference_mode=True,
        ).save_pretrained(str(folder))
        adapters.copy_companions(self.base.path, folder)
        return kept / total

    def _compare(self, folder: Path) -> float:
        """How far the adapter's logits are from the model's."""
        examples = probes(self.base, self.recipe.data, self.context, self.recipe.seed)
        outputs = agreement.chat_outputs(examples, padding_token(load_tokenizer(self.base)))
        expected = outputs(load_model(self.model, torch.float32))
        apart = agreement.difference(expected, outputs(load_model(agreement.written(folder, self.base), torch.float32)))
        if not math.isfinite(apart):
            raise TrainingError("the adapter's outputs are not finite: nothing was registered")
        return apart

    def _measure(self, folder: Path) -> dict[str, Measurement]:
        heldout = self.recipe.data.heldout
        if heldout is None:
            return {}
        named = {
            "perplexity_base": self.base,
            "perplexity_model": self.model,
            "perplexity_after": agreement.written(folder, self.base),
        }
        path, most = self.context.path(heldout), self.recipe.data.max_tokens
        return {name: measure_source(source, path, most, self.context.show) for name, source in named.items()}

    def _register(
        self, folder: Path, energy: float, apart: float, measured: Mapping[str, Measurement], watch: Stopwatch
    ) -> Outcome:
        def write(target: Path) -> None:
            for path in folder.iterdir():
                shutil.move(path, target / path.name)

        figures = {"energy_kept": energy, "logits_difference": apart}
        figures |= {name: measurement.perplexity.value for name, measurement in measured.items()}
        heldout = self.recipe.data.heldout
        data = measured["perplexity_after"].digests(heldout) if heldout is not None else []
        checkpoint = register(
            write,
            self.recipe,
            self.context,
            kind="adapter",
            base=self.base,
            parents=[self.base, self.model],
            data=data,
            evaluation=figures,
            show=self.context.show,
        )
        said = "".join(
            f", {name.replace('_', ' ')} {measurement.perplexity.value:.2f}" for name, measurement in measured.items()
        )
        return Outcome(
            checkpoint=checkpoint,
            summary=f"rank {self.recipe.rank} keeps {energy:.1%} of the energy, logits differ by {apart:.3f} of their "
            f"spread{said}",
            cost=watch.cost(),
            notes=next_steps(checkpoint),
            report=dict(figures),
        )


def _linear_modules(folder: Path) -> list[str]:
    """The names of a model's linear modules but its output layer, as LoRA's `all-linear` takes them."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    head = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head]
