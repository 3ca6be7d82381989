"""The recipe of `merge`: one model out of several of one architecture, or out of a base and its adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.recipes.sections import Recipe, Section

How = Literal["adapter", "linear", "slerp", "ties", "dare", "experts"]

# Which settings belong to which ways; one that has no effect is refused, not ignored.
_OF_WAYS: dict[str, tuple[How, ...]] = {
    "base": ("ties", "dare", "experts"),
    "weights": ("linear", "ties", "dare"),
    "t": ("slerp",),
    "density": ("ties", "dare"),
    "scale": ("ties", "dare"),
    "experts_per_token": ("experts",),
    "routing": ("experts",),
}


class MergeData(Section):
    """Data to measure the parents and the result on."""

    heldout: Path | None = None
    """Chats (a file or a folder) for the perplexity of every parent and of the result. Relative to the recipe."""
    max_tokens: Annotated[int, Field(ge=8)] = 512
    """Chats are truncated to this many tokens."""


class MergeRecipe(Recipe):
    """One model out of several."""

    method: Literal["merge"]
    """The method, which determines the other settings."""
    how: How
    """`adapter` merges an adapter into its base. `linear`: weighted mean. `slerp`: a point on the arc between two.
    `ties`: the largest differences from the base that agree in sign. `dare`: differences, most of them dropped at
    random. `experts`: a mixture of experts, Mixtral-shaped."""
    parents: Annotated[list[str], Field(min_length=1)]
    """Models to merge: NAME[@VERSION], a digest, or a folder's path. For `adapter`, only the adapter."""
    base: str | None = None
    """For `ties` and `dare`, the model that the parents were trained from. For `experts`, the model that attention and
    embeddings come from; default: the first parent."""
    weights: list[float] | None = None
    """Weight of each parent; default: equal weights, sum 1. `linear` and `ties` divide by the sum, `dare` does not."""
    t: Annotated[float, Field(ge=0, le=1)] = 0.5
    """For `slerp`, the position between the first parent (0) and the second (1)."""
    density: Annotated[float, Field(gt=0, le=1)] = 0.2
    """For `ties` and `dare`, the fraction of each tensor's differences to keep."""
    scale: float = 1.0
    """For `ties` and `dare`, the factor of the merged differences when they are added to the base."""
    experts_per_token: Annotated[int, Field(ge=1)] = 2
    """For `experts`, the number of experts that process each token."""
    routing: list[Path] | None = None
    """For `experts`, JSONL chats of each parent's domain. A router's row is the mean hidden state on them, minus what
    all domains share. Without it all routers are zero, which fits only if every expert processes each token."""
    data: MergeData = MergeData()
    """Data to measure on."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in self.model_fields_set & _OF_WAYS.keys():
            if self.how not in _OF_WAYS[name]:
                raise ValueError(f"{name} is for how: {' or '.join(_OF_WAYS[name])}")
        self._check_parents()
        if self.weights is not None:
            if len(self.weights) != len(self.parents):
                raise ValueError(f"{len(self.weights)} weights for {len(self.parents)} parents")
            if self.how != "dare" and (min(self.weights) < 0 or sum(self.weights) == 0):
                raise ValueError("weights must not be negative, nor all zero")
        return self

    def _check_parents(self) -> None:
        count = len(self.parents)
        wanted = {"adapter": (1, 1), "slerp": (2, 2), "ties": (1, None), "dare": (1, None)}.get(self.how, (2, None))
        if count < wanted[0] or (wanted[1] is not None and count > wanted[1]):
            least = "" if wanted[0] == wanted[1] else "at least "
            raise ValueError(f"how: {self.how} takes {least}{wanted[0]} parents, not {count}")
        if self.how in ("ties", "dare") and self.base is None:
            raise ValueError(f"how: {self.how} needs base, which the parents were trained from")
        if self.how != "experts":
            return
        if self.experts_per_token > count:
            raise ValueError(f"experts_per_token: {self.experts_per_token} of {count} experts")
        if self.routing is None and self.experts_per_token < count:
            raise ValueError(
                "without routing all routers are zero, and the same experts process every token: set routing to "
                f"each parent's chats, or set experts_per_token: {count}"
            )
        if self.routing is not None and len(self.routing) != count:
            raise ValueError(f"routing: {len(self.routing)} files for {count} parents")
