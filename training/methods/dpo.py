"""Direct preference optimization: a chat model learns which of two answers is preferred, without a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.functional import logsigmoid

from training.data import ChatEncoder, Example
from training.data.pairs import Preference, read_preferences
from training.data.split import check_groups_apart, split_by_group
from training.errors import DataError
from training.evaluate.loading import load_chat_tokenizer, load_model, padding_token, stored_dtype
from training.evaluate.perplexity import collate, log_likelihoods
from training.evaluate.scores import Score, mean_score
from training.methods import adapters, agreement
from training.methods.agreement import evaluating
from training.methods.gradient_run import GradientRun, processes
from training.methods.run_folder import RunFolder
from training.methods.split_data import SplitData, read_split
from training.methods.trainer import Training
from training.outcome import Context, Outcome, Stopwatch, next_steps
from training.progress import track
from training.recipes.dpo import DpoRecipe

# Each pair is two chats.
_PAIRS_AT_ONCE = 4


def run(recipe: DpoRecipe, context: Context) -> Outcome:
    """Train and register; whatever interrupts it, nothing is registered half."""
    with processes() as accelerator:
        return _Run(recipe, context, accelerator).run()


@dataclass(frozen=True)
class Pair:
    """Two encoded answers to one prompt."""

    chosen: Example
    rejected: Example

    @property
    def length(self) -> int:
        """Of the longer one, in tokens."""
        return max(len(self.chosen.input_ids), len(self.rejected.input_ids))


def preference_loss(policy: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """-log sigmoid of the margin, of each pair; both tensors are (pairs, 2) log-likelihoods, the chosen one first."""
    return -logsigmoid(reward_margins(policy, reference, beta))


def reward_margins(policy: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """By how much the chosen answer's implicit reward, beta * log(policy / reference), exceeds the rejected one's."""
    # Log-likelihoods are sums over the answer's tokens, as in the paper: longer answers weigh more.
    rewards = beta * (policy - reference)
    return rewards[:, 0] - rewards[:, 1]


class PreferenceObjective:
    """The loss of Rafailov et al. (2023), equation 7. The reference's log-likelihoods are constants."""

    def __init__(
        self, pairs: Sequence[Pair], reference: torch.Tensor, beta: float, pad_token_id: int, device: torch.device
    ) -> None:
        self._pairs = pairs
        self._reference = reference
        self._beta = beta
        self._pad_token_id = pad_token_id
        self._device = device
        self.lengths = [pair.length for pair in pairs]

    def weight(self, indices: Sequence[int]) -> int:
        """Pairs."""
        return len(indices)

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        """In nats."""
        policy = _log_likelihoods(model, [self._pairs[index] for index in indices], self._pad_token_id, self._device)
        return preference_loss(policy, self._reference[list(indices)], self._beta).sum()


_Data = SplitData[Pair]


@dataclass(frozen=True)
class _Preferred:
    """How a model ranks held-out pairs."""

    accuracy: Score
    """Pairs whose chosen answer has the higher reward."""
    margin: Score
    pairs: int

    def figures(self) -> dict[str, float]:
        return {
            **self.accuracy.figures("reward_accuracy"),
            **self.margin.figures("reward_margin"),
            "heldout_pairs": self.pairs,
        }


class _Run(GradientRun[DpoRecipe]):
    """`run()` reads top to bottom as what happens."""

    example = "pair"

    def __init__(self, recipe: DpoRecipe, context: Context, accelerator: Accelerator) -> None:
        super().__init__(recipe, context, accelerator)
        self.base = adapters.require_trainable(context.find_model(recipe.base))
        self.tokenizer = load_chat_tokenizer(self.base)
        self.pad_token_id = padding_token(self.tokenizer)

    def run(self) -> Outcome:
        watch = self.start()
        data = self._read_data()
        with self.folder(data.digests, self.base) as folder:
            return self._run(data, folder, watch)

    def _run(self, data: _Data, folder: RunFolder, watch: Stopwatch) -> Outcome:
        model: Any = load_model(self.base, torch.float32).to(self.accelerator.device)
        # Once and for all, from the base itself: the reference needs no copy and no second pass in each step.
        reference = self._score(model, data.train, "Scoring with the reference")
        heldout_reference = self._score(model, data.heldout, "Scoring held-out pairs with the reference")
        if self.recipe.adapter is not None:
            adapters.untie_for(model, self.recipe.adapter, self.recipe.output)
            model = adapters.attach(model, self.recipe.adapter)
        objective = PreferenceObjective(
            data.train, reference, self.recipe.beta, self.pad_token_id, self.accelerator.device
        )
        heldout = PreferenceObjective(
            data.heldout, heldout_reference, self.recipe.beta, self.pad_token_id, self.accelerator.device
        )
        trained = self.trainer(folder, model, objective, heldout).train(self.show)
        dtype = stored_dtype(self.base)
        outputs = agreement.chat_outputs([pair.chosen for pair in data.heldout], self.pad_token_id)
        if self.recipe.output == "merged":
            model = agreement.merge(model, dtype, outputs)
        scored = self._score(model, data.heldout, "Scoring held-out pairs")
        preferred = self._judge(scored, heldout_reference)
        moved = float((scored - heldout_reference)[:, 0].mean())
        return self._register(model, dtype, outputs, data, preferred, moved, trained, watch)

    def _read_data(self) -> _Data:
        settings = self.recipe.data
        apart = partial(check_groups_apart, what="prompt")
        pairs = read_split(settings, self.context, read_preferences, split_by_group, apart)
        encoder = ChatEncoder(self.tokenizer, settings.max_tokens)
        return SplitData(_encode(encoder, pairs.train), _encode(encoder, pairs.heldout), pairs.digests)

    def _score(self, model: Any, pairs: Sequence[Pair], label: str) -> torch.Tensor:
        """Log-likelihoods of every pair's two answers."""
        scores = torch.zeros(len(pairs), 2, device=self.accelerator.device)
        # Pairs of similar length together, so that little of a batch is padding.
        order = sorted(range(len(pairs)), key=lambda index: pairs[index].length)
        with track(label, self.show) as progress, evaluating(model):
            for start in range(0, len(order), _PAIRS_AT_ONCE):
                part = order[start : start + _PAIRS_AT_ONCE]
                taken = [pairs[index] for index in part]
                scores[part] = _log_likelihoods(model, taken, self.pad_token_id, self.accelerator.device)
                progress(start + len(part), len(order))
        return scores

    def _judge(self, scored: torch.Tensor, reference: torch.Tensor) -> _Preferred:
        margins = reward_margins(scored, reference, self.recipe.beta).double().cpu().numpy()
        return _Preferred(mean_score((margins > 0).astype(np.float64)), mean_score(margins), len(margins))

    def _register(
        self,
        model: Any,
        dtype: torch.dtype,
        outputs: agreement.Outputs,
        data: _Data,
        preferred: _Preferred,
        moved: float,
        trained: Training,
        watch: Stopwatch,
    ) -> Outcome:
        def write(target: Path) -> None:
            agreement.write(model, self.base, self.recipe.output, dtype, outputs, target)

        figures = {**preferred.figures(), "chosen_log_likelihood_change": moved}
        checkpoint = self.register(
            write,
            kind=self.recipe.output,
            base=self.base,
            data=data.digests,
            evaluation={**figures, **trained.figures()},
        )
        # Tokens are counted from both answers, which go through the model once in each pass.
        passes = trained.weight / len(data.train)
        tokens = sum(len(pair.chosen.input_ids) + len(pair.rejected.input_ids) for pair in data.train)
        return Outcome(
            checkpoint=checkpoint,
            summary=f"held-out pairs ranked correctly {preferred.accuracy}, reward margin {preferred.margin}, "
            f"{preferred.pairs} pairs, {len(trained.losses)} steps",
            cost=watch.cost(round(passes * tokens)),
            notes=[
                f"The chosen answers' log-likelihood changed by {moved:+.2f} nats. Far below 0, the model "
                "unlearns them along with the rejected ones.",
                *trained.notes(),
                *adapters.engine_note(checkpoint),
                *next_steps(checkpoint),
            ]
            if checkpoint
            else [],
            report={**figures, **trained.figures(), "losses": list(trained.losses)},
        )


def _log_likelihoods(model: Any, pairs: Sequence[Pair], pad_token_id: int, device: torch.device) -> torch.Tensor:
    """(pairs, 2), the chosen answer first; both answers of all pairs in one pass."""
    examples = [example for pair in pairs for example in (pair.chosen, pair.rejected)]
    return log_likelihoods(model, collate(examples, pad_token_id, device)).view(-1, 2)


def _encode(encoder: ChatEncoder, preferences: Sequence[Preference]) -> list[Pair]:
    """Both answers of each pair, without pairs of which one lies behind the cut; none left is a DataError."""
    pairs = [Pair(encoder.encode(preference.chosen), encoder.encode(preference.rejected)) for preference in preferences]
    kept = [pair for pair in pairs if pair.chosen.num_targets and pair.rejected.num_targets]
    if not kept:
        raise DataError(f"{preferences[0].source}: no two answers begin within max_tokens: raise it")
    return kept
