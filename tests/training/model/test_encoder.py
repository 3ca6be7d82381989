from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from training.model import ModelConfig
from training.model.encoder import Encoder, EncoderDecoder

SHAPES: list[dict[str, Any]] = [{}, {"positions": "learned", "norm_place": "post", "norm": "layer"}, {"experts": 3}]


def config(**settings: Any) -> ModelConfig:
    plain = {"vocab_size": 13, "layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "hidden": 48, "context": 16}
    return ModelConfig(**{**plain, **settings})


def scattered(model: Any) -> Any:
    torch.manual_seed(0)
    for parameter in model.eval().parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("settings", SHAPES, ids=str)
def test_an_encoder_looks_both_ways_and_not_at_padding(settings: dict[str, Any]) -> None:
    encoder = scattered(Encoder(config(**settings)))
    ids = torch.randint(0, 13, (1, 9), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[0, 8] = (changed[0, 8] + 1) % 13
    padding = torch.arange(9)[None] >= 7

    with torch.no_grad():
        assert float((encoder(ids) - encoder(changed))[0, 0].abs().max()) > 1e-4
        torch.testing.assert_close(encoder(ids, padding)[:, :7], encoder(ids[:, :7]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", SHAPES, ids=str)
def test_what_is_written_knows_all_that_was_read_and_nothing_ahead(settings: dict[str, Any]) -> None:
    model = scattered(EncoderDecoder(config(**settings)))
    draw = torch.Generator().manual_seed(0)
    read, written = torch.randint(0, 13, (1, 7), generator=draw), torch.randint(0, 13, (1, 5), generator=draw)
    other_read, other_written = read.clone(), written.clone()
    other_read[0, 6] = (other_read[0, 6] + 1) % 13
    other_written[0, 4] = (other_written[0, 4] + 1) % 13
    padded = torch.cat((read, torch.zeros(1, 2, dtype=torch.long)), dim=1)

    with torch.no_grad():
        logits = model(read, written)
        assert float((logits - model(other_read, written))[0, 0].abs().max()) > 1e-5
        torch.testing.assert_close(logits[:, :4], model(read, other_written)[:, :4], rtol=0, atol=1e-5)
        torch.testing.assert_close(logits, model(padded, written, torch.arange(9)[None] >= 7), rtol=0, atol=1e-5)


def test_it_learns_to_write_backwards() -> None:
    torch.manual_seed(0)
    model = EncoderDecoder(config(layers=1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    losses = []
    for _ in range(120):
        read = torch.randint(1, 13, (32, 4))
        written = torch.cat((torch.zeros(32, 1, dtype=torch.long), read.flip(1)), dim=1)
        loss = cross_entropy(model(read, written[:, :-1]).flatten(0, 1), written[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    assert losses[-1] < 0.6 * losses[0]
