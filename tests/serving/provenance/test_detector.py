"""Detection over keys: attribution, the correction for many keys, and honest error rates."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from serving.provenance import Detector, MarkKey, detect
from serving.provenance.schemes.gumbel import uniforms
from tests.serving.provenance.fixed_keyring import fixed_keyring
from tests.support.growth import assert_linear

VOCABULARY = 1000


@pytest.fixture
def keys(tmp_path: Path) -> list[MarkKey]:
    ring = fixed_keyring(tmp_path)
    return [ring.mark_key(f"tenant-{number}") for number in range(20)]


def marked_tokens(seed: int, length: int) -> list[int]:
    """An answer of a model to which all tokens are equally likely: each token is the one with the largest draw."""
    answer: list[int] = []
    candidates = np.arange(VOCABULARY)
    for _ in range(length):
        context = np.array(([-1] * 4 + answer)[-4:])
        draws = uniforms([seed], np.tile(context, (VOCABULARY, 1)), candidates)[0]
        answer.append(int(draws.argmax()))
    return answer


def random_tokens(length: int, seed: int = 0) -> list[int]:
    ids: list[int] = np.random.default_rng(seed).integers(0, VOCABULARY, length).tolist()
    return ids


def test_a_mark_is_found_and_attributed(keys: list[MarkKey]) -> None:
    found = detect(marked_tokens(keys[7].seed, 40), keys)

    assert found.marked
    assert found.p_value < 1e-20
    assert (found.key_id, found.tenant) == (keys[7].id, "tenant-7")
    assert found.tokens_scored == 40
    assert len(found.per_key) == 20
    assert min(found.per_key, key=lambda score: score.p_value).key_id == keys[7].id


def test_the_wrong_key_finds_nothing(keys: list[MarkKey]) -> None:
    found = detect(marked_tokens(keys[7].seed, 40), keys[:7])

    assert not found.marked
    assert found.key_id is None
    assert found.tenant is None
    assert found.p_value > 1e-3


def test_a_mark_survives_being_embedded_in_other_text(keys: list[MarkKey]) -> None:
    text = random_tokens(100) + marked_tokens(keys[0].seed, 60)[10:50] + random_tokens(100, seed=1)

    assert detect(text, keys).tenant == "tenant-0"


@pytest.mark.parametrize("num_keys", [0, 1])
def test_nothing_to_score_is_not_marked(keys: list[MarkKey], num_keys: int) -> None:
    found = detect([], keys[:num_keys])

    assert not found.marked
    assert found.p_value == 1.0
    assert found.tokens_scored == 0


def test_without_keys_nothing_is_marked() -> None:
    assert detect(random_tokens(50), []).p_value == 1.0


def test_p_value_is_corrected_for_the_number_of_keys(keys: list[MarkKey]) -> None:
    found = detect(random_tokens(50), keys)
    smallest = min(score.p_value for score in found.per_key)

    assert found.p_value == pytest.approx(1 - (1 - smallest) ** 20)


def test_p_value_never_claims_certainty(keys: list[MarkKey]) -> None:
    found = detect(marked_tokens(keys[0].seed, 200), keys)

    assert 0 < found.p_value < 1e-250


@pytest.mark.parametrize("num_keys", [1, 20])
def test_unmarked_texts_reach_a_level_as_often_as_it_says(keys: list[MarkKey], num_keys: int) -> None:
    texts = 400
    hits = sum(detect(random_tokens(60, seed), keys[:num_keys]).p_value < 0.05 for seed in range(texts))

    assert binomtest(hits, texts, 0.05).pvalue > 1e-3


def test_repetitive_text_is_not_taken_for_marked(keys: list[MarkKey]) -> None:
    """One lucky phrase said fifty times would be overwhelming evidence, if each time counted."""
    smallest = [detect(random_tokens(6, seed) * 50, keys[:1]).p_value for seed in range(200)]

    assert binomtest(sum(p < 0.05 for p in smallest), 200, 0.05).pvalue > 1e-3


def test_threshold_decides_what_is_called_marked(keys: list[MarkKey]) -> None:
    text = marked_tokens(keys[0].seed, 40)
    p_value = detect(text, keys).p_value

    assert not detect(text, keys, threshold=p_value / 2).marked
    assert detect(text, keys, threshold=p_value * 2).marked


def test_rounds_of_keys_change_nothing(keys: list[MarkKey], monkeypatch: pytest.MonkeyPatch) -> None:
    text = marked_tokens(keys[13].seed, 50)
    whole = detect(text, keys)

    monkeypatch.setattr("serving.provenance.detection.scoring.DRAWS_PER_ROUND", 120)

    assert detect(text, keys) == whole


def test_time_grows_with_the_tokens(keys: list[MarkKey]) -> None:
    def find(num_tokens: int) -> Callable[[], object]:
        text = random_tokens(num_tokens)
        return lambda: detect(text, keys[:1])

    assert_linear(find, 1000)


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> Path:
    words = Tokenizer(WordLevel({f"w{number}": number for number in range(VOCABULARY)}, unk_token="w0"))
    words.pre_tokenizer = Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_detector_reads_text(keys: list[MarkKey], tokenizer_folder: Path) -> None:
    text = " ".join(f"w{token}" for token in marked_tokens(keys[3].seed, 30))

    assert Detector(tokenizer_folder).detect_text(text, keys).tenant == "tenant-3"


def test_folder_without_tokenizer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no tokenizer\.json"):
        Detector(tmp_path)


def test_broken_tokenizer_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")

    with pytest.raises(ValueError, match="cannot be read"):
        Detector(tmp_path)
