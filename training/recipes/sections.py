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
    """The method, which determines the other settings."""
    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    """Name to register the result under, as its next version."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of all randomness: the same seed on the same machine gives the same result."""
    license: str | None = None
    """SPDX expression of the result's licence; default: the base's."""


class ChatData(Section):
    """Chats or plain text to train on, and held-out ones to measure on."""

    train: Path
    """Chats or plain text: a file, such as JSONL, or a folder of files. Paths are relative to the recipe's folder."""
    heldout: Path | None = None
    """The same, never trained on. By default, part of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of `train` to hold out if `heldout` is not set."""
    max_tokens: Annotated[int, Field(ge=8)] = 512
    """Chats are truncated to this many tokens; plain text is cut into blocks of this length."""


class LoraSettings(Section):
    """Low-rank adapters (Hu et al. 2021). They are trained; the base stays unchanged."""

    kind: Literal["lora", "dora"] = "lora"
    """Kind of adapter. `dora` learns the magnitude of each weight separately from its direction (Liu et al. 2024)."""
    rank: Annotated[int, Field(ge=1)] = 8
    """Rank of the adapter. A higher one can learn more and takes more memory."""
    alpha: Annotated[float, Field(gt=0)] = 16
    """The adapter's output is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of the adapter's inputs dropped at random in training."""
    targets: Literal["all-linear"] | list[str] = "all-linear"
    """Names of the modules to adapt."""


class Ia3Settings(Section):
    """Learned factors for keys, values and inner feed-forward activations (Liu et al. 2022): very few weights."""

    kind: Literal["ia3"]
    """Kind of adapter."""
    targets: list[str] | None = None
    """Names of the modules to scale; default: keys, values and the second feed-forward layer."""
    feed_forward: list[str] = []
    """Those of `targets` whose inputs are scaled, not their outputs, such as the second feed-forward layer."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not set(self.feed_forward) <= set(self.targets or ()):
            raise ValueError("feed_forward names modules that are not in targets")
        return self


class PrefixSettings(Section):
    """Learned keys and values before every text, in each layer (Li and Liang 2021). They cannot be merged."""

    kind: Literal["prefix"]
    """Kind of adapter."""
    tokens: Annotated[int, Field(ge=1)] = 16
    """Length of the prefix, in tokens."""


class BottleneckSettings(Section):
    """Small networks after the parts of each layer (Houlsby et al. 2019). They cannot be merged."""

    kind: Literal["bottleneck"]
    """Kind of adapter."""
    width: Annotated[int, Field(ge=1)] = 32
    """Width of the narrow layer. A wider one can learn more and takes more memory."""
    behind: Literal["both", "feed-forward"] = "both"
    """Where they go: after attention and feed-forward network, or only after the latter (Pfeiffer et al. 2021)."""
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of the linear modules that they follow, instead of `behind`."""


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
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Fraction of each weight, times the learning rate, that each step subtracts."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay rates of the running means of the gradients and of their squares."""
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients with a larger norm are scaled down to this one."""


class ScheduleSettings(Section):
    """How the learning rate rises and falls."""

    shape: Literal["cosine", "wsd", "constant"] = "cosine"
    """After warm-up, `cosine` falls to zero; `wsd` stays, then falls linearly (Hu et al. 2024); `constant` stays."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of the steps in which the learning rate rises linearly."""
    decay_fraction: Annotated[float, Field(gt=0, le=1)] = 0.2
    """With `wsd`, the fraction of the steps in which it falls."""


class PrivacySettings(Section):
    """Differential privacy (Abadi et al. 2016, DP-SGD): the weights reveal little about any single example.

    An example is a row of the data (a chat, a text, a pair; with `pretrain`, a block): give each person only one.
    """

    epsilon: Annotated[float, Field(gt=0)]
    """The budget: one example changes the probability of any weights by a factor of at most e to this power. 8 is
    weak, 1 is strong. Epsilon, the number of steps and `batch_size` ÷ examples determine the noise."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    """Probability that the bound fails. It must be below 1 ÷ examples; a tenth of that is better."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Limit on the norm of each example's gradient. A lower limit distorts gradients more and needs less noise."""


class RangeSettings(Section):
    """Numbers that `signet tune` may choose from."""

    low: int | float
    """Lowest value. If both ends are whole numbers, only whole numbers are tried."""
    high: int | float
    """Highest value."""
    log: bool = False
    """Search on a logarithmic scale, as is usual for learning rates."""

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
    for key, item in value.items():
        if isinstance(item, dict) and not item.keys() & {"low", "high", "log"}:
            flat |= _dotted(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat


_List = Annotated[list[Any], Field(min_length=2), Tag("a list")]
_Space = Annotated[
    Annotated[RangeSettings, Tag("range")] | _List,
    Discriminator(lambda value: "a list" if isinstance(value, list) else "range"),
]
Search = Annotated[dict[str, _Space], Field(min_length=1), BeforeValidator(_dotted)]

Precision = Literal["auto", "fp32", "bf16", "fp16"]


class GradientRecipe(Recipe):
    """Settings of every method that trains by gradient descent."""

    steps: Annotated[int, Field(ge=1)] | None = None
    """Optimizer steps. Set this or `epochs`."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the examples. Set this or `steps`."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Examples per step, across all processes."""
    micro_batch_size: Annotated[int, Field(ge=1)] = 8
    """Examples that one process computes at once. Lower it if memory runs out; the result stays the same."""
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    precision: Precision = "auto"
    """Format of computations; weights stay fp32. `auto`: fp32 on a CPU, bf16 on a GPU. `fp16` scales the loss."""
    privacy: PrivacySettings | None = None
    """Adds noise to each step and draws examples independently, `batch_size` on average; see
    [privacy](../guides/privacy.md)."""
    sharding: Literal["none", "full"] = "none"
    """`full` divides weights, gradients and optimizer state among the processes (FSDP)."""
    save_every: Annotated[int, Field(ge=1)] | None = None
    """Steps between saves; an interrupted run continues from the last one. Default: save about once a minute."""

    search: Search | None = None
    """What [`signet tune`](../guides/tune.md) tries for each setting: a range of numbers, or a list of values.
    `signet train` ignores it."""

    @model_validator(mode="after")
    def _check_privacy(self) -> Self:
        if self.privacy is not None and self.precision == "fp16":
            raise ValueError("privacy: set precision to fp32 or bf16, as fp16 may skip steps that count")
        return self

    @model_validator(mode="after")
    def _check_sharding(self) -> Self:
        if self.sharding == "full" and self.privacy is not None:
            raise ValueError("sharding: with privacy it must be none, as each example's gradient is clipped whole")
        if self.sharding == "full" and self.precision == "fp16":
            raise ValueError("sharding: set precision to fp32 or bf16, as fp16 scales the loss in each process")
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
