"""Loading a model for training or evaluation: fp32 on CPU, bf16 on GPU."""

from __future__ import annotations

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


def load_chat_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a model that chats; raises SourceError where there is none."""
    tokenizer = load_tokenizer(folder)
    if not tokenizer.chat_template:
        raise SourceError(f"{folder} has no chat template: training on chats needs one")
    return tokenizer


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load a model's tokenizer; raises SourceError where there is none that can be used."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise SourceError(f"{folder} has no usable tokenizer: {str(error).splitlines()[0]}") from None
    if not tokenizer.is_fast:
        raise SourceError(f"{folder} has a slow tokenizer: only a fast one (tokenizer.json) can be used")
    return tokenizer


def padding_token(tokenizer: PreTrainedTokenizerFast) -> int:
    """What to fill batches with. Any token will do, since padding is neither attended to nor scored."""
    return 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
