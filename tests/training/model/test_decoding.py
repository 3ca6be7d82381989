"""Each algorithm beside transformers' own, on the same weights, token for token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity

from training.model.cache import Cache, Int8Cache, SlidingCache
from training.model.decoding import Sampler, _agree, beam_search, contrastive_search, generate, greedy, speculate

pytestmark = pytest.mark.usefixtures("no_gradients")

END = 2
"""What `load_hub_model` writes as the end of a text."""


def padded(ids_BL: torch.Tensor, length: int) -> list[list[int]]:
    """transformers stops at the same token, and both fill up with the end."""
    return [[*row, *[END] * (length - len(row))] for row in ids_BL.tolist()]


@pytest.mark.parametrize("settings", [{}, {"window": 7}, {"experts": 4}], ids=str)
def test_greedy(settings: dict[str, Any], make_model: Any, load_hub_model: Any, ids_BL: torch.Tensor) -> None:
    model = make_model(**settings)
    theirs = load_hub_model(model).generate(ids_BL, max_new_tokens=30, do_sample=False)

    ours = generate(model, ids_BL, 30, greedy, END)

    assert padded(ours, 50) == padded(theirs, 50)


SAMPLERS = [
    {"temperature": 0.7},
    {"top_k": 5},
    {"top_p": 0.6},
    {"min_p": 0.1},
    {"temperature": 1.7, "top_k": 30, "top_p": 0.9, "min_p": 0.02},
    {"top_k": 1},
    {"top_p": 0.0001},
    {"min_p": 1.0},
    {"top_k": 1000},
]


@pytest.mark.parametrize("settings", SAMPLERS, ids=str)
def test_sampling(settings: dict[str, Any], make_model: Any, load_hub_model: Any, ids_BL: torch.Tensor) -> None:
    model = make_model()
    theirs_model = load_hub_model(model)
    torch.manual_seed(5)
    theirs = theirs_model.generate(ids_BL, max_new_tokens=30, do_sample=True, **{"top_k": 0, **settings})

    torch.manual_seed(5)
    ours = generate(model, ids_BL, 30, Sampler(**settings), END)

    assert padded(ours, 50) == padded(theirs, 50)


@pytest.mark.parametrize("beams", [1, 2, 5])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("max_tokens", [1, 9])
def test_beam_search(
    beams: int, length_penalty: float, max_tokens: int, make_model: Any, load_hub_model: Any, ids_BL: torch.Tensor
) -> None:
    model = make_model()
    with torch.no_grad():
        model.embedding.tokens.weight *= 0.3  # less sure of itself, so that beams part and end
    theirs_model = load_hub_model(model)
    for row in ids_BL:
        theirs = theirs_model.generate(
            row[None], max_new_tokens=max_tokens, num_beams=beams, do_sample=False, length_penalty=length_penalty
        )

        ours = beam_search(model, row[None], max_tokens, beams, END, length_penalty)

        assert padded(ours, 40) == padded(theirs, 40)


def test_contrastive_search_is_its_definition(make_model: Any, ids_BL: torch.Tensor) -> None:
    model = make_model()
    ids = ids_BL[:1]

    found = contrastive_search(model, ids, 15, top_k=4, penalty=0.6)

    for at in range(20, 35):
        before = found[:, :at]
        likely, tokens = model(before)[0, -1].softmax(dim=-1).topk(4)
        scores = []
        for probability, token in zip(likely, tokens, strict=True):
            states = model.hidden(torch.cat((before, token.view(1, 1)), dim=1))[0]
            scores.append(0.4 * probability - 0.6 * cosine_similarity(states[-1:], states[:-1]).max())
        assert int(found[0, at]) == int(tokens[torch.stack(scores).argmax()])


@pytest.mark.parametrize("guesses", [1, 8])
def test_a_draft_changes_nothing_but_the_passes(
    guesses: int, make_model: Any, load_hub_model: Any, ids_BL: torch.Tensor
) -> None:
    model, bad = make_model(), make_model(layers=1)
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    model.register_forward_hook(count)
    theirs = load_hub_model(model).generate(ids_BL[:1], max_new_tokens=25, do_sample=False)

    for draft in (bad, make_model()):
        passes = 0
        ours = speculate(model, draft, ids_BL[:1], 25, guesses, end=END)
        assert padded(ours, 45) == padded(theirs, 45)
    assert passes == -(-(ours.shape[1] - 20) // (guesses + 1))  # a draft that is always right


def test_drawn_tokens_follow_the_models_distribution_whatever_the_draft_guesses() -> None:
    wanted = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.25, 0.25, 0.25, 0.25]])
    drafted = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    generator = torch.Generator().manual_seed(3)
    sampler = Sampler(generator=generator)

    counts = torch.zeros(4)
    for _ in range(2000):
        guess = torch.multinomial(drafted[0], 1, generator=generator)
        counts[_agree(guess, drafted, wanted, sampler)[0]] += 1

    error = (counts / 2000 - wanted[0]).abs() / (wanted[0] * (1 - wanted[0]) / 2000).sqrt().clamp(min=1e-9)
    assert counts[3] == 0
    assert float(error.max()) < 4


def test_drawn_texts_with_a_perfect_draft_take_every_guess(make_model: Any, ids_BL: torch.Tensor) -> None:
    model = make_model()
    sampler = Sampler(temperature=0.8, top_k=5, generator=torch.Generator().manual_seed(3))
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))

    made = speculate(model, make_model(), ids_BL[:1], 12, 3, sampler)

    assert (made.shape, len(passes)) == ((1, 32), 3)


@pytest.mark.parametrize("kind", [SlidingCache, Int8Cache])
def test_any_cache_will_do(kind: type[Cache], make_model: Any, ids_BL: torch.Tensor) -> None:
    model = make_model(window=6)

    made = generate(model, ids_BL, 10, greedy, cache=kind(model.config))

    if kind is SlidingCache:
        assert made.tolist() == generate(model, ids_BL, 10).tolist()
    assert made.shape == (3, 30)
