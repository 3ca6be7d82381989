"""A sentence encoder of BERT's family, run by numpy alone: weights are mapped from its file, not copied.

What it takes is what such models are published as: a folder with `config.json`, `tokenizer.json` and
`model.safetensors`. Workers of one machine share the mapped pages. About 0.7 ms of one core for a token
of six layers 384 wide.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from serving.guard.classifiers.head import Floats

FILES = ("config.json", "tokenizer.json", "model.safetensors")
MAX_TOKENS = 256
"""Of one text; the rest is not read."""

_AT_ONCE = 1024
"""Tokens that are read together, in texts of one length."""

_KINDS: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
_ERF = tuple(np.float32(term) for term in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429))
_SLOWING = np.float32(0.3275911)
"""With the terms above: erf to seven digits (Abramowitz and Stegun, 7.1.26)."""


class EncoderError(ValueError):
    """A folder that holds no encoder of this kind; says why in one line."""


class Tokens(NamedTuple):
    """What an encoder says of one text."""

    states: Floats
    """A row for each token."""
    offsets: list[tuple[int, int]]
    """Where each token begins and ends in the text; (0, 0) for the two that the tokenizer adds."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer's weights, each a kernel (outputs, inputs) and a bias, as in the file. D: width, F: inner width."""

    qkv: tuple[tuple[Floats, Floats], ...]
    """Of query, key and value: (D, D) each."""
    attn_out: tuple[Floats, Floats]
    """(D, D)."""
    attn_norm: tuple[Floats, Floats]
    """Weight and bias of the layer norm behind attention: (D,) each."""
    intermediate: tuple[Floats, Floats]
    """(F, D)."""
    output: tuple[Floats, Floats]
    """(D, F)."""
    output_norm: tuple[Floats, Floats]


class Encoder:
    """Reads texts. Has no state that a call changes: several threads may share one."""

    def __init__(self, folder: Path, skip: int = 0) -> None:
        """Open a folder; the `skip` layers at the end are left out.

        Raises:
            EncoderError: it is none, or of another kind.
        """
        try:
            config = json.loads((folder / "config.json").read_bytes())
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            weights = _mapped(folder / "model.safetensors")
            _require_bert(config)
            self._num_heads = int(config["num_attention_heads"])
            self._epsilon = np.float32(config["layer_norm_eps"])
            self._words = weights["embeddings.word_embeddings.weight"]
            self._positions = weights["embeddings.position_embeddings.weight"]
            self._first_type = weights["embeddings.token_type_embeddings.weight"][0]
            self._norm = _pair(weights, "embeddings.LayerNorm")
            layers = range(int(config["num_hidden_layers"]) - skip)
            self._layers = [_layer(weights, f"encoder.layer.{number}.") for number in layers]
            fits = self._tokenizer.get_vocab_size() <= len(self._words)
            self.width = int(self._words.shape[1])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise EncoderError(f"{folder}: holds no encoder of BERT's kind ({_why(error)}).") from None
        except Exception as error:
            # The tokenizer's own, which has no class of its own.
            raise EncoderError(f"{folder}: its tokenizer.json cannot be read ({_why(error)}).") from None
        if not fits:
            raise EncoderError(f"{folder}: the tokenizer has more words than the weights.")
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(min(MAX_TOKENS, len(self._positions)))

    def read(self, text: str) -> Tokens:
        """The states of the last layer that is run."""
        return self.read_all([text])[0]

    def read_all(self, texts: Sequence[str]) -> list[Tokens]:
        """The same for several texts; those of one length together, which is quicker where they are short."""
        encodings = self._tokenizer.encode_batch([text.encode("utf-8", "replace").decode() for text in texts])
        by_length: dict[int, list[int]] = {}
        for number, tokens in enumerate(encodings):
            by_length.setdefault(len(tokens.ids), []).append(number)
        result: dict[int, Tokens] = {}
        for length, numbers in by_length.items():
            most = max(_AT_ONCE // length, 1)
            for begin in range(0, len(numbers), most):
                part = numbers[begin : begin + most]
                states = self._run(np.array([encodings[number].ids for number in part]))
                result |= {
                    number: Tokens(rows, encodings[number].offsets) for number, rows in zip(part, states, strict=True)
                }
        return [result[number] for number in range(len(texts))]

    def _run(self, ids: NDArray[np.int64]) -> Floats:
        """States of `ids` (texts, tokens), all texts of one length: (texts, tokens, width)."""
        length = ids.shape[1]
        states = self._words[ids] + self._positions[:length] + self._first_type
        states = self._layer_norm(states.reshape(-1, self.width), self._norm)
        for layer in self._layers:
            attn_out = _linear(self._attention(states, layer, length), layer.attn_out)
            states = self._layer_norm(states + attn_out, layer.attn_norm)
            intermediate = _gelu(_linear(states, layer.intermediate))
            states = self._layer_norm(states + _linear(intermediate, layer.output), layer.output_norm)
        return states.reshape(-1, length, self.width)

    def _attention(self, states: Floats, layer: _Layer, length: int) -> Floats:
        size = self.width // self._num_heads
        query, key, value = (
            _linear(states, weights).reshape(-1, length, self._num_heads, size).swapaxes(1, 2) for weights in layer.qkv
        )
        scores = (query @ key.swapaxes(2, 3)) * np.float32(size**-0.5)
        scores = np.exp(scores - scores.max(axis=3, keepdims=True))
        scores /= scores.sum(axis=3, keepdims=True)
        result: Floats = (scores @ value).swapaxes(1, 2).reshape(-1, self.width)
        return result

    def _layer_norm(self, states: Floats, weights: tuple[Floats, Floats]) -> Floats:
        centred = states - states.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=1, keepdims=True) + self._epsilon)
        result: Floats = centred / spread * weights[0] + weights[1]
        return result


def digest_of(folder: Path) -> str:
    """One digest of the files that an encoder is read from.

    Raises:
        EncoderError: one is missing.
    """
    whole = hashlib.sha256()
    for name in FILES:
        try:
            with (folder / name).open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise EncoderError(f"{folder}: {name} cannot be read ({error.strerror}).") from None
    return whole.hexdigest()


def _mapped(file: Path) -> dict[str, Floats]:
    """The tensors of a safetensors file by name: eight bytes of length, a JSON header, then the numbers."""
    content = np.memmap(file, dtype=np.uint8, mode="r")
    begin = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header: dict[str, Any] = json.loads(content[8:begin].tobytes())
    weights: dict[str, Floats] = {}
    for name, about in header.items():
        if name == "__metadata__" or about["dtype"] not in _KINDS:
            continue
        first, last = about["data_offsets"]
        numbers = content[begin + first : begin + last].view(_KINDS[about["dtype"]]).reshape(about["shape"])
        weights[name.removeprefix("bert.")] = np.asarray(numbers, dtype=np.float32)
    return weights


def _require_bert(config: dict[str, Any]) -> None:
    for name, wanted in (("model_type", "bert"), ("hidden_act", "gelu")):
        if config[name] != wanted:
            raise ValueError(f"{name} is {config[name]}, not {wanted}")


def _layer(weights: dict[str, Floats], prefix: str) -> _Layer:
    return _Layer(
        tuple(_pair(weights, f"{prefix}attention.self.{name}") for name in ("query", "key", "value")),
        _pair(weights, f"{prefix}attention.output.dense"),
        _pair(weights, f"{prefix}attention.output.LayerNorm"),
        _pair(weights, f"{prefix}intermediate.dense"),
        _pair(weights, f"{prefix}output.dense"),
        _pair(weights, f"{prefix}output.LayerNorm"),
    )


def _pair(weights: dict[str, Floats], name: str) -> tuple[Floats, Floats]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _linear(states: Floats, weights: tuple[Floats, Floats]) -> Floats:
    result: Floats = states @ weights[0].T
    result += weights[1]
    return result


def _gelu(values: Floats) -> Floats:
    """x times the chance that a normal number is below x."""
    half = values * np.float32(0.5**0.5)
    far = np.abs(half)
    near = 1 / (1 + _SLOWING * far)
    tail = np.full_like(near, _ERF[-1])
    for term in _ERF[-2::-1]:
        tail *= near
        tail += term
    tail *= near
    tail *= np.exp(-far * far)
    result: Floats = np.float32(0.5) * values * (1 + np.copysign(1 - tail, half))
    return result


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{Path(error.filename).name}: {error.strerror}" if error.filename else str(error.strerror)
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
