"""What recipes are made of: the settings that every recipe has, and the sections that any gradient method accepts."""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from training.registry.manifest import NAME_PATTERN


class Section(BaseModel):
    """Settings that belong together; what is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def sections_in(annotation: Any) -> Iterator[type[Section]]:
    """The sections that a field may hold: one, or one of several kinds."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in typing.get_args(annotation):
        yield from sections_in(part)


class Recipe(Section):
    """What every recipe says."""

    method: str
    """What is done; the rest of the recipe depends on it."""
    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    """Under which the result is registered, as its next version."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of everything that is drawn: the same seed on the same machine gives the same result."""
    license: str | None = None
    """SPDX expression of the result's licence; by default the base's."""


class ChatData(Section):
    """Which chats are learned from and which are held out to measure by."""

    train: Path
    """JSONL chats. Relative paths start at the recipe's folder."""
    heldout: Path | None = None
    """JSONL chats that are never trained on; without it, a part of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Which part of `train`, where `heldout` is not given."""
    max_tokens: Annotated[int, Field(ge=8)] = 512
    """Longer chats are cut here."""


class LoraSettings(Section):
    """Low-rank adapters (Hu et al. 2021): what is trained, the base stays as it is."""

    kind: Literal["lora", "dora"] = "lora"
    """What is put on the model; a section without a kind means `lora`. `dora` learns each weight's length apart from
    its direction (Liu et al. 2024)."""
    rank: Annotated[int, Field(ge=1)] = 8
    """Width of the adapter: more can say more, and takes more memory."""
    alpha: Annotated[float, Field(gt=0)] = 16
    """The adapter's output is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the adapter's inputs that is left out at random while training."""
    targets: Literal["all-linear"] | list[str] = "all-linear"
    """Names of the modules that get an adapter."""


class Ia3Settings(Section):
    """Factors of keys, values and the feed-forward network's inner activations (Liu et al. 2022): very few weights."""

    kind: Literal["ia3"]
    """What is put on the model."""
    targets: list[str] | None = None
    """Names of the modules whose outputs get a factor; by default keys, values and the second feed-forward layer."""
    feed_forward: list[str] = []
    """Which of `targets` get it on their inputs instead, as the second feed-forward layer does."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not set(self.feed_forward) <= set(self.targets or ()):
            raise ValueError("feed_forward names modules that are none of targets")
        return self


class PrefixSettings(Section):
    """Learned keys and values before every text, in each layer (Li and Liang 2021); cannot be folded into weights."""

    kind: Literal["prefix"]
    """What is put on the model."""
    tokens: Annotated[int, Field(ge=1)] = 16
    """How many positions the prefix takes."""


class BottleneckSettings(Section):
    """Small networks behind the parts of each layer (Houlsby et al. 2019); cannot be folded into weights."""

    kind: Literal["bottleneck"]
    """What is put on the model."""
    width: Annotated[int, Field(ge=1)] = 32
    """Of the narrow layer: more can say more, and takes more memory."""
    behind: Literal["both", "feed-forward"] = "both"
    """Attention and feed-forward network, or the latter alone (Pfeiffer et al. 2021), which is half as many."""
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of the linear modules behind which they stand, in place of `behind`."""


def _named_kind(value: Any) -> Any:
    """`adapter: lora` is short for `adapter: {kind: lora}`, and LoRA is what a section without a kind means."""
    if isinstance(value, str):
        return {"kind": value}
    return {"kind": "lora", **value} if isinstance(value, dict) else value


FoldableAdapter = Annotated[
    Annotated[LoraSettings | Ia3Settings, Field(discriminator="kind")], BeforeValidator(_named_kind)
]
"""Of methods whose result is a whole model."""

AdapterSettings = Annotated[
    Annotated[LoraSettings | Ia3Settings | PrefixSettings | BottleneckSettings, Field(discriminator="kind")],
    BeforeValidator(_named_kind),
]
"""Of methods whose result may be the adapter alone."""


def check_output(adapter: Section | None, output: str) -> None:
    """Raise ValueError where an adapter cannot be what `output` says."""
    if output == "adapter" and adapter is None:
        raise ValueError("output: adapter needs the section adapter, as in adapter: lora")
    if output == "merged" and isinstance(adapter, PrefixSettings):
        raise ValueError("a prefix cannot be folded into weights: set output: adapter")
    if output == "merged" and isinstance(adapter, BottleneckSettings):
        raise ValueError("a bottleneck is not linear and cannot be folded into weights: set output: adapter")


class OptimizerSettings(Section):
    """AdamW (Loshchilov and Hutter 2019)."""

    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    """At its peak."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Part of each weight that is taken away in each step, times the learning rate."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """How long the means of the gradients and of their squares remember."""
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients whose norm is larger are scaled down to it."""


class ScheduleSettings(Section):
    """How the learning rate rises and falls."""

    shape: Literal["cosine", "wsd", "constant"] = "cosine"
    """After the warm-up: a cosine to zero; or stable, then a linear decay (Hu et al. 2024, MiniCPM); or neither."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Part of the steps in which it rises linearly."""
    decay_fraction: Annotated[float, Field(gt=0, le=1)] = 0.2
    """With `wsd`, the part of the steps in which it falls."""


class PrivacySettings(Section):
    """Differential privacy (Abadi et al. 2016, DP-SGD): weights that tell little of any one example.

    An example is a row of the data (a chat, a text, a pair; with `pretrain` a block): give each person one.
    """

    epsilon: Annotated[float, Field(gt=0)]
    """The budget: an example changes how likely any weights are by a factor of e to this at most. 8 is weak, 1 strong.
    The noise follows from it, the number of steps and `batch_size` ÷ examples."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    """How likely that may fail; must be below 1 ÷ examples, better a tenth of it."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """An example's gradient whose norm is larger is scaled down to it: less bends more and needs less noise."""


class RangeSettings(Section):
    """Numbers that `signet tune` may choose from."""

    low: int | float
    """The least; where both ends are written as whole numbers, so is what is chosen."""
    high: int | float
    """The largest."""
    log: bool = False
    """Whether factors count and not differences, as with learning rates."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0, not {self.low:g}")
        return self


def _dotted(value: Any, prefix: str = "") -> Any:
    """`optimizer: {learning_rate: {low: …}}` and `optimizer.learning_rate: {low: …}` are the same."""
    if not isinstance(value, dict):
        return value
    flat: dict[str, Any] = {}
    for key, each in value.items():
        if isinstance(each, dict) and not each.keys() & {"low", "high", "log"}:
            flat |= _dotted(each, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = each
    return flat


_List = Annotated[list[Any], Field(min_length=2), Tag("a list")]
_Space = Annotated[
    Annotated[RangeSettings, Tag("range")] | _List,
    Discriminator(lambda value: "a list" if isinstance(value, list) else "range"),
]
Search = Annotated[dict[str, _Space], Field(min_length=1), BeforeValidator(_dotted)]

Precision = Literal["auto", "fp32", "bf16", "fp16"]


class GradientRecipe(Recipe):
    """What every method says that follows a gradient."""

    steps: Annotated[int, Field(ge=1)] | None = None
    """Optimizer steps; or `epochs`."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the examples; or `steps`."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Examples in each step, over all processes."""
    micro_batch_size: Annotated[int, Field(ge=1)] = 8
    """Examples that one process computes at once: lower it when memory runs out, the result stays."""
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    precision: Precision = "auto"
    """What is calculated in; weights stay fp32. `auto`: fp32 on a CPU, bf16 on a GPU. `fp16` scales the loss."""
    privacy: PrivacySettings | None = None
    """Steps are noisy, and draw each example by itself, `batch_size` of them on average; see [privacy](privacy.md)."""
    save_every: Annotated[int, Field(ge=1)] | None = None
    """Steps between two saved states, from which an interrupted run continues; by default about a minute."""

    search: Search | None = None
    """What [`signet tune`](tune.md) tries, by the settings' names: a range of numbers, or a list to choose from.
    `signet train` does not look at it."""

    @model_validator(mode="after")
    def _check_privacy(self) -> Self:
        if self.privacy is not None and self.precision == "fp16":
            raise ValueError("privacy: set precision to fp32 or bf16, as fp16 may skip steps that count")
        return self

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if (self.steps is None) is (self.epochs is None):
            raise ValueError("say how long to train: steps or epochs, one of the two")
        return self

    def num_steps(self, num_examples: int) -> int:
        """Optimizer steps, with so many examples to learn from."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None  # one of the two is there
        return max(1, math.ceil(self.epochs * num_examples / self.batch_size))
