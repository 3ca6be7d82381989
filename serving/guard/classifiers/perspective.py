"""Google's Perspective API as one more voice on toxicity: asked seldom, remembered, and its absence said.

The API takes one text a request; texts of one question that are equal, or were asked before, cost nothing. Runs on
threads of the pool's, so it may block. https://developers.perspectiveapi.com/s/about-the-api-methods
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from serving.guard.classifiers.classifier import HATE, THREAT, TOXICITY
from serving.guard.classifiers.settings import PerspectiveSettings

ATTRIBUTES = {"TOXICITY": TOXICITY, "IDENTITY_ATTACK": HATE, "THREAT": THREAT}
_MAX_CHARS = 5_000
"""The API takes 20 kB; what an insult needs is far less."""


class PerspectiveUnavailable(Exception):
    """No answer: the service failed, or may not be asked again yet. Holds no text and no key."""


class PerspectiveClassifier:
    """Asks the service. Its scores are calibrated by Google; a threshold of .8 is in the range that it recommends."""

    name = "perspective"
    categories = (TOXICITY, HATE, THREAT)
    thresholds: Mapping[str, float] = {TOXICITY: 0.8, HATE: 0.8, THREAT: 0.8}

    def __init__(self, settings: PerspectiveSettings, clock: Callable[[], float] = time.monotonic) -> None:
        assert settings.key is not None
        self._settings = settings
        self._key = settings.key
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, dict[str, float]] = OrderedDict()
        self._next_at = 0.0

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """
        Raises:
            PerspectiveUnavailable: not every text could be scored.
        """
        return [self._score(text[:_MAX_CHARS]) for text in texts]

    def _score(self, text: str) -> dict[str, float]:
        if not text.strip():
            return dict.fromkeys(self.categories, 0.0)
        digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
        with self._lock:
            if (known := self._known.get(digest)) is not None:
                self._known.move_to_end(digest)
                return known
            now = self._clock()
            if now < self._next_at:
                raise PerspectiveUnavailable("rate limit")
            self._next_at = now + 1 / self._settings.requests_per_second
        scores = self._ask(text)
        with self._lock:
            self._known[digest] = scores
            while len(self._known) > self._settings.cached_texts:
                self._known.popitem(last=False)
        return scores

    def _ask(self, text: str) -> dict[str, float]:
        url = urlsplit(self._settings.url)
        body = {
            "comment": {"text": text},
            "requestedAttributes": {attribute: {} for attribute in ATTRIBUTES},
            "doNotStore": True,
        }
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        connection = kind(url.netloc, timeout=self._settings.timeout_s)
        try:
            headers = {"content-type": "application/json", "x-goog-api-key": self._key.get_secret_value()}
            connection.request("POST", url.path, json.dumps(body), headers)
            response = connection.getresponse()
            answer = json.loads(response.read(100_000))
            if response.status != 200:
                raise PerspectiveUnavailable(f"status {response.status}")
            attributes = answer["attributeScores"]
            return {
                category: float(attributes[attribute]["summaryScore"]["value"])
                for attribute, category in ATTRIBUTES.items()
            }
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            raise PerspectiveUnavailable(type(error).__name__) from None
        finally:
            connection.close()
