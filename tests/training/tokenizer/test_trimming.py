from __future__ import annotations

import json
import random
import re
from collections import Counter
from typing import Any

import pytest
from tokenizers import Tokenizer, processors

from training.errors import RecipeError, SourceError
from training.tokenizer.bpe import train_bpe
from training.tokenizer.saving import library_tokenizer, train_unigram
from training.tokenizer.trimming import choose_tokens, require_byte_level, trim

TEXT = (
    "The lender shall lend what the borrower shall borrow. The indemnitor indemnifies the indemnitee, who is a lender. "
    "Whereas the undersigned understands that understanding is understood, notwithstanding what withstands it. "
)
OTHER = "A thermometer thaws; the lending borrower understood nothing of indemnification. Übung, 東京, 🙂!"
SPECIAL = ["<|begin|>", "<|end|>"]


@pytest.fixture
def base() -> Tokenizer:
    """Two of whose tokens stand behind the vocabulary of the model, as in Llama 3, and a third at its head."""
    tokenizer = library_tokenizer(train_bpe([TEXT] * 3, 341, ["<|endoftext|>"]))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens(["HER2"])
    template = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.token_to_id("<|begin|>"))]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def state_of(tokenizer: Tokenizer) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(tokenizer.to_str())
    return state


def trimmed_to(base: Tokenizer, size: int, text: str = TEXT) -> tuple[Tokenizer, list[int]]:
    counts = Counter(base.encode(text, add_special_tokens=False).ids)
    kept = choose_tokens(state_of(base), counts, size)
    return Tokenizer.from_str(json.dumps(trim(state_of(base), kept))), kept


@pytest.mark.parametrize("ignore_merges", [False, True])
@pytest.mark.parametrize("size", [270, 300, 330, 343])
def test_words_whose_tokens_are_left_are_encoded_as_before(base: Tokenizer, size: int, ignore_merges: bool) -> None:
    state = state_of(base)
    state["model"]["ignore_merges"] = ignore_merges
    base = Tokenizer.from_str(json.dumps(state))

    after, kept = trimmed_to(base, size)

    assert len(kept) == after.get_vocab_size() == size
    same = 0
    for word in re.findall(r"\w+|\W", TEXT + OTHER):
        ids = base.encode(word, add_special_tokens=False).ids
        new = after.encode(word, add_special_tokens=False).ids
        if set(ids) <= set(kept):
            same += 1
            assert [kept[index] for index in new] == ids
        assert after.decode(new) == word
    assert same > 5


def test_any_text_comes_back(base: Tokenizer) -> None:
    after, _ = trimmed_to(base, 290)
    draw = random.Random(0)
    planes = [(0x20, 0x7F), (0xA0, 0x2000), (0x3000, 0xD800), (0xE000, 0x110000)]

    for _ in range(500):
        text = "".join(chr(draw.randrange(*draw.choice(planes))) for _ in range(draw.randrange(1, 20)))
        assert after.decode(after.encode(text).ids) == text


def test_what_is_rarest_goes_first_and_nothing_that_others_are_made_of(base: Tokenizer) -> None:
    after, kept = trimmed_to(base, 300, "understood understanding " * 50)

    assert len(after.encode("understood", add_special_tokens=False)) == len(
        base.encode("understood", add_special_tokens=False)
    )
    assert len(after.encode(" indemnitor", add_special_tokens=False)) > len(
        base.encode(" indemnitor", add_special_tokens=False)
    )
    merges = state_of(after)["model"]["merges"]
    vocabulary = after.get_vocab()
    assert all({left, right, left + right} <= vocabulary.keys() for left, right in merges)
    assert kept == sorted(kept)
    made = {left + right for left, right in merges}
    assert all(len(token) == 1 or token in made or token in [*SPECIAL, "<|endoftext|>", "HER2"] for token in vocabulary)


def test_added_tokens_stay_and_are_named_by_their_new_numbers(base: Tokenizer) -> None:
    after, _ = trimmed_to(base, 280)

    added = after.get_added_tokens_decoder()
    assert {token.content: token.special for token in added.values()} == {
        "<|endoftext|>": True,
        "<|begin|>": True,
        "<|end|>": True,
        "HER2": False,
    }
    assert all(after.token_to_id(token.content) == number for number, token in added.items())
    encoded = after.encode("<|end|>HER2")
    assert encoded.tokens == ["<|begin|>", "<|end|>", "HER2"]
    assert max(encoded.ids) < 280


def test_what_is_named_stays_with_what_it_is_made_of(base: Tokenizer) -> None:
    named = base.token_to_id("Ġindemnifi")

    kept = choose_tokens(state_of(base), {}, 285, [named])

    assert named in kept
    after = Tokenizer.from_str(json.dumps(trim(state_of(base), kept)))
    text = base.decode([named])
    assert len(after.encode(text, add_special_tokens=False)) == 1


@pytest.mark.parametrize("size", [100, 259, 344, 100_000])
def test_a_size_that_cannot_be_is_refused(base: Tokenizer, size: int) -> None:
    with pytest.raises(RecipeError, match=r"too few: 260 tokens must remain|no fewer than the 344 tokens"):
        choose_tokens(state_of(base), {}, size)


def test_the_least_size_leaves_single_bytes_and_added_tokens(base: Tokenizer) -> None:
    kept = choose_tokens(state_of(base), {}, 260)

    after = Tokenizer.from_str(json.dumps(trim(state_of(base), kept)))
    assert after.decode(after.encode(OTHER).ids) == OTHER
    assert state_of(after)["model"]["merges"] == []


def test_merges_in_the_older_form_are_read(base: Tokenizer) -> None:
    state = state_of(base)
    state["model"]["merges"] = [" ".join(merge) for merge in state["model"]["merges"]]

    assert choose_tokens(state, {}, 300) == choose_tokens(state_of(base), {}, 300)


def test_only_byte_level_bpe_is_trimmed(base: Tokenizer) -> None:
    sentencepiece = state_of(base)
    sentencepiece["model"]["byte_fallback"] = True
    clip = state_of(base)
    clip["model"]["end_of_word_suffix"] = "</w>"
    no_bytes = state_of(base)
    no_bytes["decoder"] = {"type": "Sequence", "decoders": [{"type": "Fuse"}]}
    require_byte_level(state_of(base))

    for state in (sentencepiece, clip, no_bytes, state_of(train_unigram([TEXT] * 3, 300, []))):
        with pytest.raises(SourceError, match="not byte-level BPE"):
            require_byte_level(state)
