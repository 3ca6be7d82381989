"""The classifiers that come with Signet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from serving.guard.classifiers.classifier import HATE, ILLICIT, INDIRECT, JAILBREAK, TOXICITY, Classifier
from serving.guard.classifiers.pool import ClassifierPool, Observer
from serving.guard.classifiers.settings import ClassifiersSettings

_CATEGORIES: dict[str, tuple[str, ...]] = {
    "attack": (JAILBREAK, ILLICIT),
    "indirect": (INDIRECT,),
    "toxicity": (TOXICITY, HATE),
}


def make_pool(settings: ClassifiersSettings, observe: Observer | None = None) -> ClassifierPool:
    """A pool of all classifiers, and of Perspective where there is a key.

    Raises:
        EncoderError: there is an encoder in the settings and it is not to be used; says why in one line.
    """
    classifiers: list[Classifier] = [_Lazy(name, categories) for name, categories in _CATEGORIES.items()]
    if settings.encoder is not None:
        classifiers[0] = _with_encoder(settings.encoder)
    if settings.perspective.key is not None:
        from serving.guard.classifiers.perspective import PerspectiveClassifier

        classifiers.append(PerspectiveClassifier(settings.perspective))
    return ClassifierPool(classifiers, settings, observe) if observe else ClassifierPool(classifiers, settings)


def _with_encoder(folder: Path) -> Classifier:
    """The classifier of attacks with an encoder, opened at once: a wrong folder shows when a gateway starts."""
    stamps = tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.glob("*")))
    return _opened(folder, stamps)


@lru_cache(maxsize=1)
def _opened(folder: Path, stamps: tuple[tuple[str, int, int], ...]) -> Classifier:
    """Kept while its files stay as they are: a reload of other settings does not read 90 MB again."""
    from serving.guard.classifiers.attacks import AttackClassifier, shipped
    from serving.guard.classifiers.encoder_cascade import EncoderCascade

    return AttackClassifier(shipped, EncoderCascade.open(folder, shipped().encoder_head))


class _Lazy:
    """A classifier whose numpy and weights are loaded by the first question, on the thread that answers it."""

    def __init__(self, name: str, categories: tuple[str, ...]) -> None:
        self.name = name
        self.categories = categories
        self._made: Classifier | None = None

    @property
    def thresholds(self) -> dict[str, float]:
        return dict(self._classifier().thresholds)

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        return self._classifier().scores(texts)

    def _classifier(self) -> Classifier:
        if self._made is None:
            # Two threads may both make one; either serves.
            from serving.guard.classifiers.attacks import AttackClassifier, IndirectClassifier
            from serving.guard.classifiers.toxicity import ToxicityClassifier

            kinds: dict[str, Callable[[], Classifier]] = {
                "attack": AttackClassifier,
                "indirect": IndirectClassifier,
                "toxicity": ToxicityClassifier,
            }
            self._made = kinds[self.name]()
        return self._made
