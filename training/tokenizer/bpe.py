"""Byte-level byte-pair encoding, to be read: the trainer and the encoder (Sennrich et al. 2016; Radford et al. 2019).

A text is cut into words, a word is written as its UTF-8 bytes, and the most frequent pair of neighbours becomes one
token, again and again. Encoding makes the same merges in the same order. Every string is some sequence of bytes, so
none is unknown. Merges and ids are those of `tokenizers` with BpeTrainer and ByteLevel, ties and oddities included.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import count, pairwise
from typing import NamedTuple

from tokenizers import Regex, pre_tokenizers

Pair = tuple[int, int]

# GPT-2's: contractions, words, numbers, signs, each with the space before it, then other spaces.
WORD = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# The library's engine for expressions, as another one's Unicode may know other letters.
_CUT = pre_tokenizers.Split(Regex(WORD), "isolated")

# A long text is read in parts, so that its words do not all lie in memory: up to a space between letters, where a word
# begins.
_PART_CHARACTERS = 1 << 20
_BETWEEN_WORDS = re.compile(r"(?<=[A-Za-z,.]) (?=[A-Za-z])")

# Longer words, which hardly come twice, are not remembered.
_MOST_REMEMBERED_CHARACTERS = 100


def _byte_characters() -> list[str]:
    """For each byte the character that it is written as: itself where it can be seen, else one from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = count(256)
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


BYTE_CHARACTERS = _byte_characters()
_TO_CHARACTERS = dict(enumerate(BYTE_CHARACTERS))
_TO_BYTES = {ord(character): byte for byte, character in enumerate(BYTE_CHARACTERS)}


def spelled(text: str) -> str:
    """The text with each of its bytes as one character: `" é"` is `"ĠÃ©"`."""
    return text.encode().decode("latin-1").translate(_TO_CHARACTERS)


def bytes_of(token: str) -> bytes:
    """The bytes that a token stands for; raises ValueError where it is not spelled so."""
    try:
        return bytes(_TO_BYTES[ord(character)] for character in token)
    except KeyError:
        raise ValueError(f"{token!r} is not spelled in bytes") from None


def words_of(text: str) -> Iterator[str]:
    """The text in words; put together, they are the text."""
    start = 0
    while start < len(text):
        space = _BETWEEN_WORDS.search(text, start + _PART_CHARACTERS)
        end = space.start() if space else len(text)
        yield from (word for word, _ in _CUT.pre_tokenize_str(text[start:end]))
        start = end


class Merge(NamedTuple):
    """One step of an encoding."""

    rank: int
    """Of the merge among all: lower ones were learned earlier and come first."""
    left: int
    right: int
    made: int


class BPE:
    """A vocabulary and its merges; encodes and decodes."""

    def __init__(
        self, vocabulary: Mapping[str, int], merges: Iterable[Pair], special_tokens: Sequence[str] = ()
    ) -> None:
        self.vocabulary = dict(vocabulary)
        self.merges = list(merges)
        self.special_tokens = list(special_tokens)
        self.tokens = {index: token for token, index in self.vocabulary.items()}
        self._merged: dict[Pair, Merge] = {}
        for rank, (left, right) in enumerate(self.merges):
            made = self.vocabulary[self.tokens[left] + self.tokens[right]]
            self._merged[left, right] = Merge(rank, left, right, made)
        # The longest first, so that none hides behind its own beginning.
        alternatives = "|".join(map(re.escape, sorted(special_tokens, key=len, reverse=True)))
        self._special = re.compile(f"({alternatives})") if alternatives else None
        self._remembered = lru_cache(maxsize=100_000)(self._encode_word)

    def encode(self, text: str) -> list[int]:
        """The ids of a text in which special tokens stand for themselves."""
        if self._special is None:
            return self.encode_ordinary(text)
        ids: list[int] = []
        for number, part in enumerate(self._special.split(text)):  # every other part is a special token
            ids += [self.vocabulary[part]] if number % 2 else self.encode_ordinary(part)
        return ids

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of a text in which nothing is special."""
        ids: list[int] = []
        for word in words_of(text):
            ids += self._remembered(word) if len(word) <= _MOST_REMEMBERED_CHARACTERS else self._encode_word(word)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text; bytes that are no UTF-8, as where a character is cut in two, become U+FFFD."""
        special = set(self.special_tokens)
        tokens = (self.tokens[index] for index in ids)
        content = b"".join(token.encode() if token in special else bytes_of(token) for token in tokens)
        return content.decode(errors="replace")

    def merge(self, symbols: Sequence[int], on_merge: Callable[[Merge], None] | None = None) -> list[int]:
        """Merge the ids of a word's characters: the lowest rank first, among equal ones the leftmost.

        Each merge costs a step of a heap, so a word of a million letters is no more than a long word.
        """
        # A linked list over the places of the word: a merged token stands at its first place, None at the others.
        ids: list[int | None] = list(symbols)
        before, after = list(range(-1, len(ids) - 1)), list(range(1, len(ids) + 1))
        merges = ((self._merged.get(pair), place) for place, pair in enumerate(pairwise(symbols)))
        queue = [(merge, place) for merge, place in merges if merge is not None]
        heapify(queue)
        while queue:
            merge, place = heappop(queue)
            follower = after[place]
            if ids[place] != merge.left or follower == len(ids) or ids[follower] != merge.right:
                continue  # one of the two is part of another token by now
            ids[place], ids[follower] = merge.made, None
            after[place] = follower = after[follower]
            if follower < len(ids):
                before[follower] = place
            for first, second in ((before[place], place), (place, follower)):
                if first >= 0 and second < len(ids):
                    new = self._merged.get((ids[first], ids[second]))  # type: ignore[arg-type]  # neither is None
                    if new is not None:
                        heappush(queue, (new, first))
            if on_merge is not None:
                on_merge(merge)
        return [index for index in ids if index is not None]

    def _encode_word(self, word: str) -> list[int]:
        return self.merge([self.vocabulary[character] for character in spelled(word)])


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    special_tokens: Sequence[str] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> BPE:
    """Learn a vocabulary: special tokens, the 256 bytes, then merges until it is full or nothing is left to merge."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(words_of(text))
    vocabulary: dict[str, int] = {}
    for token in (*special_tokens, *sorted(BYTE_CHARACTERS)):
        vocabulary.setdefault(token, len(vocabulary))
    words = [[vocabulary[character] for character in spelled(word)] for word in counts]
    merges = learn_merges(words, list(counts.values()), vocabulary, vocab_size, on_progress=on_progress)
    return BPE(vocabulary, merges, special_tokens)


def learn_merges(
    words: Sequence[list[int]],
    counts: Sequence[int],
    vocabulary: dict[str, int],
    vocab_size: int,
    *,
    may_reuse: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Pair]:
    """Merge the most frequent pair of neighbours, of equal ones that of the lowest ids, until the vocabulary is full.

    `words` occur `counts` times; they and `vocabulary` are changed in place. Two pairs may spell one token ("ab" + "c",
    "a" + "bc"): it is made from both, or, unless it `may_reuse` a token, from the first alone.
    """
    tokens = {index: token for token, index in vocabulary.items()}
    next_id = max(tokens) + 1
    pair_counts, where = _count_pairs(words, counts)
    serial = count()  # so that sets of words are never compared
    queue = [(-pair_counts[pair], pair, next(serial), places) for pair, places in where.items()]
    heapify(queue)
    merges: dict[Pair, None] = {}
    while queue and len(vocabulary) < vocab_size:
        negated, pair, _, places = heappop(queue)
        now = pair_counts[pair]
        if now != -negated:  # neighbours were merged meanwhile, and the pair is rarer than when it was queued
            if now > 0:
                heappush(queue, (-now, pair, next(serial), places))
            continue
        token = tokens[pair[0]] + tokens[pair[1]]
        if token not in vocabulary:
            vocabulary[token], tokens[next_id], next_id = next_id, token, next_id + 1
        elif not may_reuse:
            continue
        merges.pop(pair, None)  # it can come again where a token is made in two ways: the last time counts
        merges[pair] = None
        grown: defaultdict[Pair, set[int]] = defaultdict(set)
        for number in places:
            for other, change in _replace(words[number], pair, vocabulary[token]):
                pair_counts[other] += change * counts[number]
                if change > 0:
                    grown[other].add(number)
        for other, others_places in grown.items():
            if pair_counts[other] > 0:  # in "éé" its first half is a neighbour for a moment only
                heappush(queue, (-pair_counts[other], other, next(serial), others_places))
        if on_progress is not None:
            on_progress(len(vocabulary), vocab_size)
    return list(merges)


def _count_pairs(words: Sequence[list[int]], counts: Sequence[int]) -> tuple[Counter[Pair], dict[Pair, set[int]]]:
    """How often each pair of neighbours occurs, and the numbers of the words that it is in."""
    pair_counts: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, word in enumerate(words):
        for pair in pairwise(word):
            pair_counts[pair] += counts[number]
            where[pair].add(number)
    return pair_counts, where


def _replace(word: list[int], pair: Pair, made: int) -> list[tuple[Pair, int]]:
    """Put `made` for each such pair in a word, and return by how much that changes the counts of its neighbours.

    The pair itself is not counted down, as it will not be looked for again.
    """
    left, right = pair
    changes = []
    place = 0
    while place < len(word) - 1:
        if word[place] == left and word[place + 1] == right:
            word[place : place + 2] = [made]
            if place > 0:
                changes += [((word[place - 1], left), -1), ((word[place - 1], made), 1)]
            if place + 1 < len(word):
                changes += [((right, word[place + 1]), -1), ((made, word[place + 1]), 1)]
        place += 1
    return changes
