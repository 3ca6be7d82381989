"""Marks on vLLM's model runner V2, which runs on GPUs: the same choices as on runner V1, as tensor operations.

Nothing is copied to the host: contexts are read from the runner's own token history, the draws are vLLM's own Philox
code. A processor's place there is after grammar and penalties and before temperature, min-p, top-k and top-p, so those
are applied here to find what may win; the chosen token's logit then outweighs all others.

Shapes: R marked rows of one step, V vocabulary, L the longest history, W tokens of context.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p
from vllm.v1.watermarking.prfs import PhiloxPRF

from serving.provenance.schemes import BEFORE_THE_ANSWER, dual_gumbel, synthid
from serving.provenance.schemes.kgw import CONTEXT_WIDTH, GREEN_SHARE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext
    from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcRequestState

CERTAIN = 1e30


@dataclass(frozen=True)
class Slot:
    """What a marked request asked for. `chance_seed`: what the scheme's own chance follows from."""

    scheme: str
    seed: int
    chance_seed: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    answer_start: int
    opening_nats: float


class Slots:
    """The marked requests of one runner, by slot."""

    def __init__(self, state: LogitsProcRequestState, kgw_delta: float) -> None:
        self._state = state
        self._delta = kgw_delta
        self._slots: dict[int, Slot] = {}
        shape, device = (state.max_num_reqs,), state.device
        # Collision entropy drawn in each answer's opening, and the part of it that its last position had: a step
        # computed again replaces what it said before.
        self._nats = torch.zeros(shape, device=device)
        self._last_nats = torch.zeros(shape, device=device)
        self._last_total = torch.full(shape, -1, dtype=torch.int64, device=device)
        self._table = torch.from_numpy(synthid.SAMPLING_TABLE.copy()).to(device)

    def put(self, index: int, slot: Slot | None) -> None:
        """Give the slot to a request; None where it is unmarked. Forgets whoever had it before."""
        self._slots.pop(index, None)
        if slot is not None:
            self._slots[index] = slot
            self._nats[index] = 0.0
            self._last_nats[index] = 0.0
            self._last_total[index] = -1

    def mark(self, logits: torch.Tensor, context: LogitsContext) -> None:
        """logits [rows, V], in place. One row a request: speculative decoding is refused at the engine's start."""
        by_scheme: dict[str, list[int]] = {}
        for row, index in enumerate(context.idx_mapping_np.tolist()):
            if (slot := self._slots.get(index)) is not None:
                by_scheme.setdefault(slot.scheme, []).append(row)
        for scheme, rows in by_scheme.items():
            step = _Step(self._state, self._slots, rows, context)
            if scheme == "kgw":
                step.add_green(logits, self._delta)
            else:
                self._choose(scheme, step, logits)

    def _choose(self, scheme: str, step: _Step, logits: torch.Tensor) -> None:
        possible = step.filtered(logits)
        marked = ~step.repeated & (possible.amax(dim=1) > -torch.inf) & ~self._in_opening(step, possible)
        if scheme == "synthid":
            winner = step.tournament(possible, self._table)
            marked &= (step.contexts != BEFORE_THE_ANSWER).all(dim=1)
        else:
            winner = step.gumbel(possible, step.draw_seeds(scheme))
        values = logits[step.rows, winner]
        logits[step.rows, winner] = torch.where(marked, CERTAIN, values)

    def _in_opening(self, step: _Step, possible: torch.Tensor) -> torch.Tensor:
        again = self._last_total[step.slots] == step.total
        before = self._nats[step.slots] - torch.where(again, self._last_nats[step.slots], 0.0)
        opening = before < step.tensor([slot.opening_nats for slot in step.asked])
        probabilities = possible.softmax(dim=1)
        nats = torch.where(opening & ~step.repeated, -probabilities.square().sum(dim=1).log(), 0.0).clamp_min(0.0)
        self._nats[step.slots] = before + nats
        self._last_nats[step.slots] = nats
        self._last_total[step.slots] = step.total
        return opening


class _Step:
    """The rows of one scheme in one step."""

    def __init__(
        self, state: LogitsProcRequestState, slots: dict[int, Slot], rows: list[int], context: LogitsContext
    ) -> None:
        indices = [int(context.idx_mapping_np[row]) for row in rows]
        self.asked = [slots[index] for index in indices]
        self._device = state.device
        self.rows, self.slots = self.tensor(rows), self.tensor(indices)
        self.total = state.total_len.gpu[self.slots].to(torch.int64)
        longest = int(max(context.seq_lens_upper_bound_np[row] for row in rows)) + 1
        tokens = state.all_token_ids.gpu[self.slots, :longest].to(torch.int64)
        start = self.tensor([slot.answer_start for slot in self.asked])[:, None]
        place = torch.arange(tokens.shape[1], device=self._device)
        answer = (place >= start) & (place < self.total[:, None])
        padded = torch.nn.functional.pad(torch.where(answer, tokens, BEFORE_THE_ANSWER), (CONTEXT_WIDTH, 0), value=-1)
        # [R, L, W]: the tokens before each place; the place behind the last token is that of the token to come.
        windows = padded.unfold(1, CONTEXT_WIDTH, 1)
        self.contexts = windows.gather(1, self.total[:, None, None].expand(-1, 1, CONTEXT_WIDTH))[:, 0]
        same = (windows[:, :-1] == self.contexts[:, None]).all(dim=2)
        self.repeated = (same & answer).any(dim=1)

    def tensor(self, values: Sequence[float] | Sequence[Sequence[int]]) -> torch.Tensor:
        return torch.tensor(values, device=self._device)

    def filtered(self, logits: torch.Tensor) -> torch.Tensor:
        """[R, V], divided by the temperature; -inf where the request's own settings rule a token out."""
        size = logits.shape[1]
        scaled = logits[self.rows] / self.tensor([slot.temperature for slot in self.asked])[:, None]
        least = self.tensor([slot.min_p for slot in self.asked])[:, None]
        scaled = scaled.masked_fill(scaled < scaled.amax(dim=1, keepdim=True) + least.log(), -torch.inf)
        top_k = [slot.top_k if 0 < slot.top_k < size else size for slot in self.asked]
        top_p = [slot.top_p for slot in self.asked]
        k = self.tensor(top_k) if min(top_k) < size else None
        return apply_top_k_top_p(scaled, k, self.tensor(top_p) if min(top_p) < 1 else None)

    def draw_seeds(self, scheme: str) -> list[tuple[int, ...]]:
        """The keys of which one decides about each row."""
        if scheme == "dual-gumbel":
            return [dual_gumbel.key_pair(slot.seed) for slot in self.asked]
        return [(slot.seed,) for slot in self.asked]

    def gumbel(self, possible: torch.Tensor, seeds: list[tuple[int, ...]]) -> torch.Tensor:
        """[R]: the keyed Gumbel maximum; of two keys the second decides with its share's chance."""
        winners = [
            (possible + _noise(self._draws([keys[number] for keys in seeds], possible.shape[1]))).argmax(dim=1)
            for number in range(len(seeds[0]))
        ]
        if len(winners) == 1:
            return winners[0]
        return torch.where(self._chance(0, 1)[:, 0] < dual_gumbel.ALPHA, winners[1], winners[0])

    def tournament(self, possible: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """[R]: the winner of SynthID's tournament; see `tournament.winner`."""
        size = possible.shape[1]
        hashed = torch.ones(len(self.asked), dtype=torch.int64, device=self._device)
        for column in self.contexts.T:
            hashed = (hashed + column) * synthid.MULTIPLIER + 1
        places = (hashed[:, None] + torch.arange(size, device=self._device)) * synthid.MULTIPLIER + 1
        keys = self.tensor([synthid.round_keys(slot.seed) for slot in self.asked])
        probabilities = possible.softmax(dim=1)
        for key in keys.T:
            index = ((places + key[:, None]) * synthid.MULTIPLIER + 1) & (synthid.TABLE_SIZE - 1)
            bits = table[index].to(probabilities.dtype)
            probabilities = probabilities * (1 + bits - (bits * probabilities).sum(dim=1, keepdim=True))
        return (probabilities.log() + _noise(self._chance(1, size))).argmax(dim=1)

    def add_green(self, logits: torch.Tensor, delta: float) -> None:
        """Raise the green tokens' logits, in place."""
        green = self._draws([slot.seed for slot in self.asked], logits.shape[1]) < GREEN_SHARE
        logits[self.rows] += delta * (green & ~self.repeated[:, None])

    def _draws(self, seeds: Sequence[int], size: int) -> torch.Tensor:
        return _uniforms(seeds, self.contexts, size)

    def _chance(self, number: int, size: int) -> torch.Tensor:
        """[R, size] draws that depend on the position and the request's chance, not on its key."""
        nothing = torch.zeros_like(self.total)
        position = torch.stack((self.total, nothing + number, nothing, nothing), dim=1)
        return _uniforms([slot.chance_seed for slot in self.asked], position, size)


def _uniforms(seeds: Sequence[int], contexts: torch.Tensor, size: int) -> torch.Tensor:
    """[R, size]: row by row under its own seed, rows of one seed together."""
    vocabulary = torch.arange(size, device=contexts.device)
    draws = torch.empty((len(seeds), size), device=contexts.device)
    for seed in dict.fromkeys(seeds):
        rows = torch.tensor([row for row, one in enumerate(seeds) if one == seed], device=contexts.device)
        draws[rows] = PhiloxPRF(seed).uniform(contexts[rows], vocabulary)
    return draws


def _noise(uniforms: torch.Tensor) -> torch.Tensor:
    return -torch.log(-torch.log(uniforms))
