"""Who made this text: mark keys, the Gumbel mark's arithmetic, and the detector.

In come a keyring file and token ids or text; out go key ids for the engine to mark with, and p-values that say
whose mark a text carries. A leaf with numpy and `tokenizers` alone: neither torch nor the engine is needed.
"""

from serving.provenance.detector import DEFAULT_THRESHOLD, Detection, Detector, KeyScore, detect
from serving.provenance.keyring import Keyring, KeyringError, MarkKey, UnknownMarkKey

__all__ = [
    "DEFAULT_THRESHOLD",
    "Detection",
    "Detector",
    "KeyScore",
    "Keyring",
    "KeyringError",
    "MarkKey",
    "UnknownMarkKey",
    "detect",
]
