"""Loading a model for training or evaluation: fp32 on CPU, bf16 on GPU."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from training.errors import SourceError
from training.evaluate.source import Source
from training.model.bottleneck import is_bottleneck, load_bottlenecks

if TYPE_CHECKING:
    from transformers import PreTrainedModel


# A model's body alone, and heads that predict no next token.
_OTHER_HEAD = re.compile(
    r"((?<!LMHead)(?<!DoubleHeads)Model|For(MaskedLM|PreTraining|(Sequence|Token)Classification|QuestionAnswering))$"
)


def compute_dtype() -> torch.dtype:
    """What to calculate in: CPUs are slower in bf16 than in fp32, GPUs several times faster."""
    return torch.bfloat16 if torch.cuda.is_available() else torch.float32


@contextmanager
def quiet() -> Iterator[None]:
    """Without the table of weights that transformers prints where a model is loaded as one of another kind."""
    transformers_logging.disable_progress_bar()  # ours shows the steps
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def load_model(source: Source, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Load a model, or an adapter on its base; nothing is downloaded and no code of the folder is run.

    Its weights become `dtype`, by default what is calculated in.
    """
    transformers_logging.disable_progress_bar()  # ours shows the steps
    if source.base is not None:
        if is_bottleneck(source.path):
            return _load_bottlenecks(source, load_model(source.base, dtype))
        from peft import PeftModel

        return PeftModel.from_pretrained(load_model(source.base, dtype), source.path)
    require_language_model(source)
    try:
        return AutoModelForCausalLM.from_pretrained(source.path, dtype=dtype or compute_dtype(), local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(f"{source.identity.ref} cannot be loaded: {why}") from None


def _load_bottlenecks(source: Source, model: PreTrainedModel) -> PreTrainedModel:
    try:
        load_bottlenecks(model, source.path)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise SourceError(f"{source.identity.ref} cannot be loaded: {str(error).splitlines()[0]}") from None
    return model


def stored_dtype(source: Source) -> torch.dtype:
    """The type of the weights in the model's files."""
    return AutoConfig.from_pretrained(source.path, local_files_only=True).dtype or torch.float32


def require_language_model(source: Source) -> None:
    """Raise SourceError where a model predicts no next token, as encoders and classifiers do not.

    transformers would load it with a head of random weights.
    """
    try:
        architectures = json.loads((source.path / "config.json").read_bytes()).get("architectures") or []
    except (OSError, ValueError, AttributeError):  # whoever loads the model says what is wrong
        return
    if architectures and all(_OTHER_HEAD.search(name) for name in architectures):
        raise SourceError(f"{source.identity.ref} is not a language model: it is a {architectures[0]}")


def load_chat_tokenizer(model: Source | Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a model that chats; raises SourceError where there is none."""
    if isinstance(model, Source):
        require_language_model(model)
    tokenizer = load_tokenizer(model)
    if not tokenizer.chat_template:
        raise SourceError(f"{_name_of(model)} has no chat template: training on chats needs one")
    return tokenizer


def load_tokenizer(model: Source | Path) -> PreTrainedTokenizerFast:
    """Load a model's tokenizer; raises SourceError where there is none that can be used."""
    folder = model.path if isinstance(model, Source) else model
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise SourceError(f"{_name_of(model)} has no usable tokenizer: {str(error).splitlines()[0]}") from None
    if not tokenizer.is_fast:
        raise SourceError(f"{_name_of(model)} has a slow tokenizer: only a fast one (tokenizer.json) can be used")
    return tokenizer


def _name_of(model: Source | Path) -> str:
    """As the user calls it: where a model lies may be a folder that is soon gone."""
    return model.identity.ref if isinstance(model, Source) else str(model)


def padding_token(tokenizer: PreTrainedTokenizerFast) -> int:
    """What to fill batches with. Any token will do, since padding is neither attended to nor scored."""
    return 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
