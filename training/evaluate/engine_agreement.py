"""Whether an engine that serves a checkpoint answers as its files do: log-probabilities of given texts, token by token.

An engine has kernels, a tokenizer and ways to load weights and adapters of its own; a checkpoint can be what was signed
and still be served as something else.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from training.errors import TrainingError
from training.evaluate.loading import load_model, load_tokenizer, stored_dtype
from training.evaluate.source import Source

# Mean difference of a token's log-probability, in nats, from PyTorch in fp32. Rounding of 16-bit numbers at each
# layer costs some hundredths; a wrong adapter, scale or template costs tenths at least.
BOUNDS = {torch.float32: 0.005, torch.float16: 0.02, torch.bfloat16: 0.05}
MOST_TOKENS = 128
TIMEOUT_S = 120.0
Answer = TypeVar("Answer")
TEXTS = (
    "The station opens at six in the morning and closes at midnight. Tickets are sold at the counter.",
    "Question: Why is the sky blue?\nAnswer: Because air scatters short waves of light more than long ones.",
    "def area(width, height):\n    return width * height\n\nprint(area(3, 4))",
    "Überall schien die Sonne, und niemand ging nach Hause.",
)


@dataclass(frozen=True)
class Agreement:
    """How far the engine is from the files."""

    mean: float
    """Of the absolute differences, in nats."""
    largest: float
    bound: float
    tokens: int

    @property
    def holds(self) -> bool:
        """Whether the mean is within the bound; what is no number is not."""
        return self.mean <= self.bound

    def __str__(self) -> str:
        apart = f"{self.mean:.2g} nats apart in the mean of {self.tokens} tokens, {self.largest:.2g} at most"
        verdict = "agrees with the files" if self.holds else "does not say what the files say"
        return f"the engine {verdict}: log-probabilities are {apart} (bound of the mean: {self.bound:g})"


def compare_with_engine(source: Source, url: str, key: str | None) -> Agreement:
    """Score `TEXTS` in PyTorch and in the engine, which serves the checkpoint as NAME@VERSION or NAME.

    Raises TrainingError where the engine cannot be asked, or serves no model of the name.
    """
    ref = source.identity.ref
    served = _ask(url, key, "/v1/models", lambda said: [card["id"] for card in said["data"]])
    model = next((name for name in (ref, ref.partition("@")[0]) if name in served), None)
    if model is None:
        raise TrainingError(f"the engine at {url} does not serve {ref}: it has {', '.join(served) or 'no model'}")
    whole = source.base or source
    # In fp32, so that only the engine's own rounding counts against it.
    reference: Any = load_model(source, torch.float32).eval()
    tokenizer = load_tokenizer(whole.path)
    differences: list[float] = []
    for text in TEXTS:
        ids = list(tokenizer(text)["input_ids"])[:MOST_TOKENS]
        with torch.inference_mode():
            logits_LV = reference(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
        expected_LV = logits_LV.log_softmax(-1)
        logprobs = token_logprobs(url, key, model, ids)
        differences += [abs(float(expected_LV[at, ids[at + 1]]) - each) for at, each in enumerate(logprobs)]
    bound = BOUNDS.get(stored_dtype(whole), BOUNDS[torch.bfloat16])
    return Agreement(sum(differences) / len(differences), max(differences), bound, len(differences))


def token_logprobs(url: str, key: str | None, model: str, ids: Sequence[int]) -> list[float]:
    """What a running engine gives each token of a text but the first, in nats; raises TrainingError."""

    def read(said: Any) -> list[float]:
        return [at[token] for at, token in zip(_prompt_logprobs(said)[1:], ids[1:], strict=True)]

    # Token ids, so that the engine's tokenizer has no part in it. 0 asks for no token but the prompt's own.
    asked = {"model": model, "prompt": list(ids), "max_tokens": 1, "prompt_logprobs": 0, "temperature": 0}
    return _ask(url, key, "/v1/completions", read, asked)


def _prompt_logprobs(said: Any) -> list[dict[int, float]]:
    """Log-probabilities at each position of the prompt, at least of the token that stands there."""
    positions = said["choices"][0]["prompt_logprobs"]
    return [{int(token): each["logprob"] for token, each in (at or {}).items()} for at in positions]


def _ask(url: str, key: str | None, path: str, read: Callable[[Any], Answer], body: object = None) -> Answer:
    """What `read` finds in the engine's answer; raises TrainingError."""
    if not url.startswith(("http://", "https://")):
        raise TrainingError(f"{url} is not an engine's URL: write http://HOST:PORT")
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url.rstrip("/") + path, data, headers)  # noqa: S310  # http alone, above
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            return read(json.load(response))
    except urllib.error.HTTPError as error:
        raise TrainingError(f"the engine refused with status {error.code}: {_message(error.read())}") from None
    except OSError as error:
        raise TrainingError(f"the engine at {url} cannot be reached: {error}") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise TrainingError(f"the engine's {path} is not vLLM's") from None


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return "it gave no reason"
