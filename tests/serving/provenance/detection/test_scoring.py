"""What is concluded from keys, schemes, spans and probabilities together, and how often it is wrong."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from serving.provenance import MarkKey, detect
from serving.provenance.adjustment import Adjustment
from serving.provenance.schemes import SCHEMES
from serving.provenance.schemes.gumbel import uniforms
from tests.serving.provenance.fixed_keyring import fixed_keyring

VOCABULARY = 400


@pytest.fixture
def keys(tmp_path: Path) -> list[MarkKey]:
    ring = fixed_keyring(tmp_path)
    return [ring.mark_key(f"tenant-{number}") for number in range(8)]


def random_tokens(length: int, seed: int) -> list[int]:
    ids: list[int] = np.random.default_rng(seed).integers(0, VOCABULARY, length).tolist()
    return ids


def marked(seed: int, length: int, sure: float = 0.0, stream: int = 0) -> tuple[list[int], list[float]]:
    """An answer and its log-probabilities: a share `sure` of its tokens has no alternative, others have four."""
    rng = np.random.default_rng(stream)
    answer: list[int] = []
    logprobs: list[float] = []
    for _ in range(length):
        choice = rng.integers(0, VOCABULARY, 1 if rng.random() < sure else 4)
        context = np.tile(np.array(([-1] * 4 + answer)[-4:]), (len(choice), 1))
        answer.append(int(choice[uniforms([seed], context, choice)[0].argmax()]))
        logprobs.append(-float(np.log(len(choice))))
    return answer, logprobs


def test_false_claims_of_all_tests_together_are_those_stated(keys: list[MarkKey]) -> None:
    """Eight keys, all schemes and the search for spans at once."""
    texts = 100
    found = [detect(random_tokens(60, seed), keys, 0.1, schemes=tuple(SCHEMES), spans=True) for seed in range(texts)]

    assert binomtest(sum(one.marked for one in found), texts, 0.1, alternative="greater").pvalue > 1e-3
    assert all(one.marked == (one.p_value < 0.1) for one in found)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_scheme_is_told_from_the_others(keys: list[MarkKey], scheme: str) -> None:
    """Of many candidates each token is the one that scores best under the scheme."""
    seed = keys[2].seed_for(scheme)
    rng = np.random.default_rng(1)
    answer = random_tokens(4, 1)
    for _ in range(50):
        choice = rng.integers(0, VOCABULARY, 8)
        scores = [
            SCHEMES[scheme].token_scores(
                [seed], SCHEMES[scheme].pairs([*answer[-4:], int(token)]).select(slice(-1, None))
            )
            for token in choice
        ]
        answer.append(int(choice[int(np.argmax([one.sum() for one in scores]))]))

    found = detect(answer, keys, schemes=tuple(SCHEMES))

    assert (found.marked, found.scheme, found.tenant) == (True, scheme, "tenant-2")


def test_a_marked_part_that_the_whole_hides_is_found_as_a_span(keys: list[MarkKey]) -> None:
    part, _ = marked(keys[3].seed, 120)
    text = random_tokens(1500, 1) + part + random_tokens(1500, 2)

    whole = detect(text, keys, 1e-6)
    found = detect(text, keys, 1e-6, spans=True)

    assert not whole.marked
    assert (found.marked, found.verdict, found.key_id) == (True, "marked", keys[3].id)
    (span,) = found.spans
    assert abs(span.first_token - 1500) < 15
    assert abs(span.first_token + span.num_tokens - 1620) < 15


def test_parts_by_two_keys_are_told_apart(keys: list[MarkKey]) -> None:
    first, second = marked(keys[0].seed, 120)[0], marked(keys[1].seed, 120, stream=1)[0]
    text = random_tokens(200, 1) + first + random_tokens(200, 2) + second

    spans = detect(text, keys, spans=True).spans

    assert [span.tenant for span in spans] == ["tenant-0", "tenant-1"]
    assert [abs(span.first_token - start) < 15 for span, start in zip(spans, (200, 520), strict=True)] == [True, True]


def test_probabilities_find_what_sure_tokens_hide(keys: list[MarkKey]) -> None:
    text, logprobs = marked(keys[0].seed, 300, sure=0.85)

    plain = detect(text, keys)
    weighted = detect(text, keys, logprobs=logprobs)

    assert weighted.weighted
    assert weighted.p_value < plain.p_value / 100
    assert weighted.tenant == "tenant-0"


def test_weights_of_unmarked_text_keep_the_stated_rate(keys: list[MarkKey]) -> None:
    rng = np.random.default_rng(3)
    texts = 250
    hits = sum(
        detect(random_tokens(80, seed), keys[:1], logprobs=(-rng.gamma(0.4, 2, 80)).tolist()).p_value < 0.05
        for seed in range(texts)
    )

    assert binomtest(hits, texts, 0.05).pvalue > 1e-3


def test_unknown_probabilities_weigh_nothing(keys: list[MarkKey]) -> None:
    text, _ = marked(keys[0].seed, 60)

    found = detect(text, keys, logprobs=[None] * 60)

    assert found.p_value == 1
    assert found.verdict == "cannot_tell"


def test_verdict_depends_on_what_such_a_text_could_show(keys: list[MarkKey]) -> None:
    text = random_tokens(150, 4)

    assert detect(text, keys, nats_per_token=2.0).verdict == "not_marked"
    assert detect(text, keys, nats_per_token=0.05).verdict == "cannot_tell"
    assert detect(text[:10], keys, nats_per_token=2.0).verdict == "cannot_tell"


def test_more_keys_make_a_text_harder_to_judge(keys: list[MarkKey]) -> None:
    text = random_tokens(60, 5)

    assert detect(text, keys[:1]).power > detect(text, keys).power


def test_an_adjustment_weakens_what_its_key_says(keys: list[MarkKey]) -> None:
    text, _ = marked(keys[0].seed, 40, sure=0.6)
    adjustments = {one.subject: one for one in [Adjustment(keys[0].id, "gumbel", "mine", 0.2, 2.0, 100, 20_000, 0)]}

    plain = detect(text, keys)
    adjusted = detect(text, keys, adjustments=adjustments, tokenizer="mine")
    elsewhere = detect(text, keys, adjustments=adjustments, tokenizer="other")

    assert adjusted.p_value > 3 * plain.p_value
    assert (adjusted.per_key[0].calibrated or adjusted.calibrated) == (adjusted.per_key[0].key_id == keys[0].id)
    assert elsewhere == plain


def test_a_revoked_key_is_named_as_such(tmp_path: Path) -> None:
    ring = fixed_keyring(tmp_path)
    key = ring.mark_key("acme", "small")
    ring.revoke(key.id)

    found = detect(marked(key.seed, 80)[0], ring.keys())

    assert (found.marked, found.revoked, found.model) == (True, True, "small")
