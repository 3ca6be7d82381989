from __future__ import annotations

import json
import random
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from training.tokenizer import bpe
from training.tokenizer.bpe import BPE, Merge, train_bpe, words_of
from training.tokenizer.saving import library_tokenizer

REPOSITORY = Path(__file__).parents[3]
SPECIAL = ["<|endoftext|>", "<|endoftext|>!", "<s>"]
LANGUAGES = """Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Où est l'hôtel? Voilà, c'est là-bas.
В чащах юга жил бы цитрус? Да, но фальшивый экземпляр!
我能吞下玻璃而不伤身体。我能吞下玻璃。 いろはにほへと ちりぬるを いろは
अपना पानी और पानी नमस्ते नमस्ते दुनिया مرحبا بالعالم مرحبا 🎉🎉🎉
Zażółć gęślą jaźń, gęślą jaźń. \u00a0\u2028\t\r\n  ½ ² ٣٤ x²"""


def library(texts: Sequence[str], vocab_size: int, special_tokens: Sequence[str]) -> dict[str, Any]:
    """The model that `tokenizers` learns."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def assert_as_the_library(texts: Sequence[str], vocab_size: int, special_tokens: Sequence[str]) -> None:
    ours, theirs = train_bpe(texts, vocab_size, special_tokens), library(texts, vocab_size, special_tokens)

    assert [[ours.tokens[left], ours.tokens[right]] for left, right in ours.merges] == theirs["merges"]
    assert ours.vocabulary == theirs["vocab"]


@pytest.mark.parametrize("vocab_size", [700, 3000])
def test_merges_are_the_librarys_on_prose_code_and_languages(vocab_size: int) -> None:
    prose = [path.read_text() for path in sorted((REPOSITORY / "docs" / "guides").glob("*.md"))[:12]]
    code = [path.read_text() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("c*.py"))[:12]]

    for texts in (prose, code, [LANGUAGES, LANGUAGES[::-1]]):
        assert_as_the_library(texts, vocab_size, SPECIAL)


def test_merges_are_the_librarys_where_a_token_is_made_in_several_ways() -> None:
    draw = random.Random(3)
    for _ in range(60):
        letters = draw.choice(["ab", "abc", "aA é"])
        words = ["".join(draw.choices(letters, k=draw.randint(1, 12))) for _ in range(draw.randint(1, 30))]
        special = draw.choice([[], ["<s>"], ["ab"], SPECIAL])

        assert_as_the_library([" ".join(words), words[0]], 256 + len(special) + draw.randint(0, 120), special)


@pytest.fixture(scope="module")
def small() -> BPE:
    return train_bpe([LANGUAGES, (REPOSITORY / "README.md").read_text()], 900, SPECIAL)


@pytest.fixture(scope="module")
def theirs(small: BPE) -> Tokenizer:
    return library_tokenizer(small)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_string_survives_and_has_the_librarys_ids(small: BPE, theirs: Tokenizer, text: str) -> None:
    theirs.encode_special_tokens = True
    ids = small.encode_ordinary(text)

    assert small.decode(ids) == text
    assert theirs.encode(text).ids == ids


@given(st.lists(st.sampled_from([*SPECIAL, "<|endo", "<s", "s>", " ", "the", "é", "!"])))
def test_special_tokens_are_found_where_the_library_finds_them(small: BPE, theirs: Tokenizer, parts: list[str]) -> None:
    theirs.encode_special_tokens = False
    text = "".join(parts)

    assert small.encode(text) == theirs.encode(text).ids
    assert small.decode(small.encode(text)) == text


@given(st.lists(st.integers(0, 255)))
def test_bytes_that_are_no_text_are_decoded_as_the_library_does(
    small: BPE, theirs: Tokenizer, content: list[int]
) -> None:
    ids = [small.vocabulary[bpe.BYTE_CHARACTERS[byte]] for byte in content]

    assert small.decode(ids) == theirs.decode(ids) == bytes(content).decode(errors="replace")


def test_a_word_of_any_length_is_encoded(small: BPE, theirs: Tokenizer) -> None:
    text = "the" * 30_000

    ids = small.encode(text)

    assert small.decode(ids) == text
    assert ids == theirs.encode(text).ids


@given(st.lists(st.sampled_from(["word", " ", "  ", "\n", "it's", "12", ".", "é", ","])))
def test_a_text_in_parts_has_the_same_words(parts: list[str]) -> None:
    text = "".join(parts)
    whole = list(words_of(text))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe, "_PART_CHARACTERS", 3)
        assert list(words_of(text)) == whole
    assert "".join(whole) == text


def test_merges_are_told_in_their_order(small: BPE) -> None:
    steps: list[Merge] = []

    small.merge([small.vocabulary[character] for character in "Ġthe"], steps.append)

    assert [small.tokens[step.made] for step in steps][-1] == "Ġthe"
    assert all(small.tokens[step.left] + small.tokens[step.right] == small.tokens[step.made] for step in steps)
    assert small.merges[steps[0].rank] == (steps[0].left, steps[0].right)
