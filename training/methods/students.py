"""Students cut out of their teachers: fewer layers, fewer tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.utils import logging as transformers_logging

from training.errors import RecipeError
from training.evaluate.classification import POOLING, is_classifier
from training.evaluate.loading import load_tokenizer, require_language_model, stored_dtype
from training.evaluate.source import Source
from training.lexical.bert import without_lexical_part
from training.methods import adapters
from training.methods.vocabulary import keep_rows, write_tokenizer
from training.recipes.distill import StudentSettings
from training.tokenizer.trimming import renumber

CONTINUATION = "##"
"""What pieces within a word begin with in WordPiece vocabularies."""


def write_student(teacher: Source, settings: StudentSettings, texts: Sequence[str], folder: Path) -> None:
    """Write a student with some of the teacher's layers, and where wanted only the tokens of these texts.

    Raises RecipeError where the teacher cannot be cut so, SourceError where it is an encoder without a head.
    """
    transformers_logging.disable_progress_bar()  # ours shows the steps
    classifies = is_classifier(teacher)
    if not classifies:
        require_language_model(teacher)
    auto = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
    model = auto.from_pretrained(teacher.path, dtype=stored_dtype(teacher), local_files_only=True)
    model = without_lexical_part(model)
    keep_layers(model, evenly_spaced(settings.layers, model.config.num_hidden_layers))
    adapters.copy_companions(teacher.path, folder)
    if settings.vocabulary == "used":
        if not classifies:
            raise RecipeError("student.vocabulary: used is for classifiers: a language model may write any token")
        _keep_tokens(model, folder, texts)
    model.save_pretrained(folder)


def evenly_spaced(wanted: int, layers: int) -> list[int]:
    """Which of so many layers to keep: the first, the last, and those between at equal distances."""
    if wanted >= layers:
        raise RecipeError(f"student.layers: the teacher has {layers}; choose fewer")
    if wanted == 1:
        return [0]
    return [round(index * (layers - 1) / (wanted - 1)) for index in range(wanted)]


def keep_layers(model: Any, kept: Sequence[int]) -> None:
    """Drop all other layers, and what the configuration says of each of them."""
    count = model.config.num_hidden_layers
    module, name = _place_of_layers(model)
    layers = getattr(module, name)
    setattr(module, name, nn.ModuleList(layers[index] for index in kept))
    for name, value in model.config.to_dict().items():
        if isinstance(value, list) and len(value) == count:  # such as layer_types
            setattr(model.config, name, [value[index] for index in kept])
    model.config.num_hidden_layers = len(kept)
    if getattr(model.config, POOLING, None) and kept[-1] != count - 1:
        setattr(model.config, POOLING, None)


def layers_of(model: Any) -> nn.ModuleList:
    """A transformer's layers, the lowest first."""
    module, name = _place_of_layers(model)
    layers: nn.ModuleList = getattr(module, name)
    return layers


def _place_of_layers(model: Any) -> tuple[nn.Module, str]:
    """The module that holds the layers, and their name in it."""
    # The outermost list of that length: a layer's experts may be as many.
    return next(
        (module, name)
        for module in model.modules()
        for name, child in module.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == model.config.num_hidden_layers
    )


def _keep_tokens(model: Any, folder: Path, texts: Sequence[str]) -> None:
    """Leave only the tokens that these texts have, and those that spell others letter by letter."""
    path = folder / "tokenizer.json"
    state = json.loads(path.read_bytes())
    if state["model"].get("type") != "WordPiece":
        raise RecipeError("student.vocabulary: used needs a WordPiece tokenizer, which the teacher does not have")
    tokenizer = load_tokenizer(folder)
    used = {token for text in texts for token in tokenizer(text)["input_ids"]}
    used |= set(tokenizer.all_special_ids)
    old: dict[str, int] = state["model"]["vocab"]
    kept = sorted(
        (index, token) for token, index in old.items() if index in used or len(token.removeprefix(CONTINUATION)) == 1
    )
    new = {token: index for index, (_, token) in enumerate(kept)}
    state["model"]["vocab"] = new
    renumber(state, new)
    write_tokenizer(folder, state)
    keep_rows(model, [index for index, _ in kept])
    model.config.pad_token_id = load_tokenizer(folder).pad_token_id
