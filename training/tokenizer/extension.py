"""More tokens for a tokenizer that exists: texts without them are encoded as before."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer

from training.errors import RecipeError, SourceError
from training.tokenizer.bpe import learn_merges


@dataclass(frozen=True)
class Extension:
    """A larger tokenizer."""

    tokenizer: Tokenizer
    pieces: Mapping[int, Sequence[int]]
    """For each new id those that its text had before."""


def with_tokens(tokenizer: Tokenizer, words: Sequence[str]) -> Extension:
    """Add words that are looked for in the text before it is cut; those that are one token already are left out.

    Raises RecipeError where none is new, or one cannot be a token.
    """
    pieces: dict[str, list[int]] = {}
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    for word in words:
        if not word.strip() or any(token in word for token in special):
            raise RecipeError(f"extend.tokens: {word!r} is empty or holds a control token of the base")
        ids = tokenizer.encode(word, add_special_tokens=False).ids
        if len(ids) > 1:
            pieces[word] = ids
    if not pieces:
        raise RecipeError("extend.tokens: all are tokens of the base already")
    larger = Tokenizer.from_str(tokenizer.to_str())
    larger.add_tokens([AddedToken(word, normalized=False) for word in pieces])
    index_of = larger.get_vocab()
    return _checked(tokenizer, Extension(larger, {index_of[word]: ids for word, ids in pieces.items()}))


def with_merges(tokenizer: Tokenizer, documents: Sequence[str], number: int) -> Extension:
    """Go on learning merges where the tokenizer's training stopped, on other text.

    Later merges come last, so a text in which none of them occurs keeps its ids. Raises SourceError where the tokenizer
    is not byte-level BPE.
    """
    settings = json.loads(tokenizer.to_str())
    model = settings["model"]
    if model["type"] != "BPE" or (settings["decoder"] or {}).get("type") != "ByteLevel" or not tokenizer.pre_tokenizer:
        raise SourceError("the base's tokenizer is not byte-level BPE and takes no further merges: list extend.tokens")
    counts: Counter[str] = Counter()
    for document in documents:
        text = tokenizer.normalizer.normalize_str(document) if tokenizer.normalizer else document
        counts.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text))
    words = [[token.id for token in tokenizer.model.tokenize(word)] for word in counts]
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    tokens = {index: token for token, index in vocabulary.items()}
    # A token that is there already stays as it was made: another way to it would change the ids of old texts.
    merges = learn_merges(words, list(counts.values()), vocabulary, len(vocabulary) + number, may_reuse=False)
    if not merges:
        raise RecipeError("extend.tokens: the text has nothing left to merge")
    pieces: dict[int, list[int]] = {}
    for left, right in merges:
        token = tokens[left] + tokens[right]
        tokens[vocabulary[token]] = token
        pieces[vocabulary[token]] = [*pieces.get(left, [left]), *pieces.get(right, [right])]
        model["merges"].append([tokens[left], tokens[right]])
    # Those added beside the model's as well: the library numbers what it does not find there anew.
    model["vocab"] = vocabulary
    return _checked(tokenizer, Extension(Tokenizer.from_str(json.dumps(settings)), pieces))


def _checked(before: Tokenizer, extension: Extension) -> Extension:
    """Raise SourceError unless old tokens keep their ids and new ones say what their pieces said."""
    after = extension.tokenizer
    moved = [token for token, index in before.get_vocab().items() if after.token_to_id(token) != index]
    changed = [
        index for index, pieces in extension.pieces.items() if after.decode([index]) != before.decode(list(pieces))
    ]
    if moved or changed:
        which = moved[0] if moved else before.decode(list(extension.pieces[changed[0]]))
        raise SourceError(
            f"the base's tokenizer cannot be extended: it would spell {which!r} differently. Begin it with a space"
        )
    return extension
