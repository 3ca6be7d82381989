from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from training.model import ModelConfig
from training.model.decoder import Decoder
from training.model.saving import save_decoder

MakeModel = Callable[..., Decoder]
END = 2


@pytest.fixture
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def make_model() -> MakeModel:
    """A factory of small random models, with weights so large that wrong positions and masks show."""

    def make(**settings: Any) -> Decoder:
        plain = {"vocab_size": 61, "layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "hidden": 48, "context": 64}
        torch.manual_seed(0)
        model = Decoder(ModelConfig(**{**plain, **settings})).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return model

    return make


@pytest.fixture
def ids_BL() -> torch.Tensor:
    return torch.randint(0, 61, (3, 20), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def load_hub_model(tmp_path: Path) -> Callable[[Decoder], Any]:
    """What transformers makes of a model that was saved."""

    def load(model: Decoder) -> Any:
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        folder = tmp_path / "saved"
        folder.mkdir(exist_ok=True)
        save_decoder(model, folder, {"eos_token_id": END, "bos_token_id": END, "pad_token_id": END})
        return AutoModelForCausalLM.from_pretrained(folder)

    return load
