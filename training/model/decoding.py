"""How a text is made of next-token probabilities: each algorithm in a few lines, equal to transformers' own.

Tensors are named with their shapes: B sequences, L tokens so far, V vocabulary, R beams that are alive.
All take and return ids with the prompt in front. `end` is the token that ends a text.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import cosine_similarity

from training.model.cache import Cache
from training.model.decoder import Decoder

Choose = Callable[[torch.Tensor], torch.Tensor]
"""From logits_BV to a token for each row."""


def greedy(logits_BV: torch.Tensor) -> torch.Tensor:
    """The likeliest."""
    return logits_BV.argmax(dim=-1)


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Draws a token, after unlikely ones are left out; each limit is applied to what the one before it left."""

    temperature: float = 1.0
    """Divides the logits: below 1, the likely become likelier."""
    top_k: int | None = None
    """Keep so many."""
    top_p: float | None = None
    """Keep the fewest that have this probability together (Holtzman et al. 2020)."""
    min_p: float | None = None
    """Keep what has this part of the likeliest one's probability (Nguyen et al. 2024)."""
    generator: torch.Generator | None = None
    """Where randomness comes from; by default PyTorch's own."""

    def __call__(self, logits_BV: torch.Tensor) -> torch.Tensor:
        return torch.multinomial(self.probabilities(logits_BV), 1, generator=self.generator).squeeze(-1)

    def probabilities(self, logits_BV: torch.Tensor) -> torch.Tensor:
        """What is drawn from."""
        # In transformers' order: another one keeps other tokens.
        kept_BV = logits_BV.float() / self.temperature
        if self.top_k is not None:
            # Tokens as likely as the last of the k stay too.
            least_B1 = kept_BV.topk(min(self.top_k, kept_BV.shape[-1])).values[:, -1:]
            kept_BV = kept_BV.masked_fill(kept_BV < least_B1, -math.inf)
        if self.top_p is not None:
            rising_BV, order_BV = kept_BV.sort(dim=-1)
            is_tail_BV = rising_BV.softmax(dim=-1).cumsum(dim=-1) <= 1 - self.top_p
            # The likeliest token stays, however small top_p is.
            is_tail_BV[:, -1] = False
            kept_BV = kept_BV.masked_fill(is_tail_BV.scatter(1, order_BV, is_tail_BV), -math.inf)
        if self.min_p is not None:
            likely_BV = kept_BV.softmax(dim=-1)
            least_B1 = self.min_p * likely_BV.amax(dim=-1, keepdim=True)
            kept_BV = kept_BV.masked_fill(likely_BV < least_B1, -math.inf)
        return kept_BV.softmax(dim=-1)


@torch.no_grad()
def generate(
    model: Decoder,
    ids_BL: torch.Tensor,
    max_tokens: int,
    choose: Choose = greedy,
    end: int | None = None,
    cache: Cache | None = None,
) -> torch.Tensor:
    """Add a token at a time, until every row has ended; what follows a row's end is `end` again."""
    cache = Cache(model.config) if cache is None else cache
    new_BL = ids_BL
    has_ended_B = torch.zeros(len(ids_BL), dtype=torch.bool, device=ids_BL.device)
    for _ in range(max_tokens):
        next_B = choose(model(new_BL, cache)[:, -1])
        if end is not None:
            next_B = next_B.masked_fill(has_ended_B, end)
            has_ended_B |= next_B == end
        new_BL = next_B[:, None]
        ids_BL = torch.cat((ids_BL, new_BL), dim=1)
        if has_ended_B.all():
            break
    return ids_BL


@torch.no_grad()
def beam_search(
    model: Decoder,
    ids_1L: torch.Tensor,
    max_tokens: int,
    beams: int,
    end: int | None = None,
    length_penalty: float = 1.0,
) -> torch.Tensor:
    """Keep the likeliest `beams` beginnings, and return the text whose mean log-probability is best.

    Ended texts are compared by log-probability / length ** length_penalty. The search stops when as many as there are
    beams have ended and the best one alive is worse than all of them.
    """
    cache = Cache(model.config)
    # One row at first: equal beams would grow equally and stay equal.
    alive_RL, score_R, new_RL = ids_1L, torch.zeros(1, device=ids_1L.device), ids_1L
    ended: list[tuple[float, torch.Tensor]] = []
    for length in range(1, max_tokens + 1):
        log_RV = model(new_RL, cache)[:, -1].float().log_softmax(dim=-1)
        # Twice as many as beams: even if half of them end here, enough go on.
        scores, flat = (log_RV + score_R[:, None]).flatten().topk(min(2 * beams, log_RV.numel()))
        row, token = flat // log_RV.shape[1], flat % log_RV.shape[1]
        grown = torch.cat((alive_RL[row], token[:, None]), dim=1)
        ends = token == end if end is not None and length < max_tokens else torch.full_like(token, length == max_tokens)
        finished = [
            # Only a candidate among the first `beams` may end, as in transformers.
            (float(scores[at]) / length**length_penalty, grown[at])
            for at in range(min(beams, len(token)))
            if ends[at]
        ]
        ended = sorted([*ended, *finished], key=lambda beam: -beam[0])[:beams]
        alive = torch.where(~ends.bool())[0][:beams]
        if not len(alive):
            break
        alive_RL, score_R, new_RL = grown[alive], scores[alive], token[alive, None]
        if len(ended) == beams and float(score_R[0]) / length**length_penalty <= ended[-1][0]:
            break
        cache.take_rows(row[alive])
    return ended[0][1][None]


@torch.no_grad()
def contrastive_search(
    model: Decoder, ids_1L: torch.Tensor, max_tokens: int, top_k: int, penalty: float, end: int | None = None
) -> torch.Tensor:
    """Of the `top_k` likeliest, the one that is likely and whose state is unlike those before it (Su et al. 2022).

    (1 - penalty) probability - penalty * the largest cosine with an earlier state; so it does not repeat itself.
    """
    cache = Cache(model.config)
    states_1LD = model.hidden(ids_1L, cache)
    for _ in range(max_tokens):
        likely_1K, token_1K = model.head(states_1LD[:, -1]).float().softmax(dim=-1).topk(top_k)
        # All candidates follow the same text: its cache is repeated for each.
        cache.take_rows(torch.zeros(top_k, dtype=torch.long, device=ids_1L.device))
        candidates_K1D = model.hidden(token_1K.T, cache)
        likeness_K = cosine_similarity(candidates_K1D, states_1LD, dim=-1).amax(dim=-1)
        best = ((1 - penalty) * likely_1K[0] - penalty * likeness_K).argmax()
        cache.take_rows(best[None])
        states_1LD = torch.cat((states_1LD, candidates_K1D[best][None]), dim=1)
        ids_1L = torch.cat((ids_1L, token_1K[:, best, None]), dim=1)
        if end is not None and int(ids_1L[0, -1]) == end:
            break
    return ids_1L


@torch.no_grad()
def speculate(
    model: Decoder,
    draft: Decoder,
    ids_1L: torch.Tensor,
    max_tokens: int,
    guesses: int,
    sampler: Sampler | None = None,
    end: int | None = None,
) -> torch.Tensor:
    """What `model` alone would write, greedily or by `sampler`, in fewer passes (Leviathan et al. 2023).

    `draft`, which is smaller, guesses some tokens ahead; `model` reads them in one pass, and takes those it agrees
    with and one of its own. Drawn texts follow the same distribution as without a draft, not the same random numbers.
    """
    length = ids_1L.shape[1] + max_tokens
    cache, draft_cache = Cache(model.config), Cache(draft.config)
    ids_1L, known = ids_1L, 0
    while ids_1L.shape[1] < length:
        start = ids_1L.shape[1]
        # Each round ends with a token of the model's own, which needs a place.
        num = min(guesses, length - start - 1)
        guessed_1L, drafted_LV = _draft(draft, draft_cache, ids_1L, num, sampler)
        wanted_LV = _distribution(model(guessed_1L[:, known:], cache)[0, -(num + 1) :], sampler)
        taken = _agree(guessed_1L[0, start:], drafted_LV, wanted_LV, sampler)
        ids_1L = torch.cat((ids_1L, taken[None]), dim=1)
        if end is not None and (at := (taken == end).nonzero()).numel():
            return ids_1L[:, : start + int(at[0]) + 1]
        # The last token was drawn and has not been read yet.
        known = ids_1L.shape[1] - 1
        cache.truncate(known)
        draft_cache.truncate(min(draft_cache.length, known))
    return ids_1L


def _draft(
    draft: Decoder, cache: Cache, ids_1L: torch.Tensor, num: int, sampler: Sampler | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The text with `num` guesses behind it, and what each was drawn from."""
    drawn_from = []
    for _ in range(num):
        wanted_1V = _distribution(draft(ids_1L[:, cache.length :], cache)[0, -1:], sampler)
        drawn_from.append(wanted_1V)
        ids_1L = torch.cat((ids_1L, _drawn(wanted_1V, sampler)[None]), dim=1)
    return ids_1L, torch.cat(drawn_from) if drawn_from else ids_1L.new_zeros(0, draft.config.vocab_size)


def _agree(
    guessed_L: torch.Tensor, drafted_LV: torch.Tensor, wanted_LV: torch.Tensor, sampler: Sampler | None
) -> torch.Tensor:
    """The guesses up to the first that is refused, and one token more."""
    generator = sampler.generator if sampler else None
    for at, token in enumerate(guessed_L.tolist()):
        # Without a sampler both are 0 or 1, and the draw decides nothing.
        ratio = wanted_LV[at, token] / drafted_LV[at, token]
        if torch.rand((), generator=generator, device=ratio.device) < ratio:
            continue
        # What the draft offered too seldom makes up for what it offered too often.
        left_1V = (wanted_LV[at] - drafted_LV[at]).clamp(min=0)[None]
        return torch.cat((guessed_L[:at], _drawn(left_1V / left_1V.sum(), sampler)))
    return torch.cat((guessed_L, _drawn(wanted_LV[-1:], sampler)))


def _distribution(logits_LV: torch.Tensor, sampler: Sampler | None) -> torch.Tensor:
    if sampler is not None:
        return sampler.probabilities(logits_LV)
    return torch.nn.functional.one_hot(logits_LV.argmax(dim=-1), logits_LV.shape[-1]).float()


def _drawn(wanted_1V: torch.Tensor, sampler: Sampler | None) -> torch.Tensor:
    if sampler is None:
        return wanted_1V.argmax(dim=-1)
    return torch.multinomial(wanted_1V, 1, generator=sampler.generator)[0]
