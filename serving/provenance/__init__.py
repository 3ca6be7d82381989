"""Who made this text: mark keys, watermark schemes, and the detector.

In come a keyring file and token ids or text; out go key ids for the engine to mark with, and p-values that say
whose mark a text carries. A leaf with numpy and `tokenizers` alone: neither torch nor the engine is needed.
"""

from serving.provenance.detection import DEFAULT_THRESHOLD, Detection, KeyScore, MarkedSpan, detect
from serving.provenance.detector import Detector
from serving.provenance.keyring import Keyring
from serving.provenance.keyring_file import KeyringError, UnknownMarkKey
from serving.provenance.mark_key import MarkKey

__all__ = [
    "DEFAULT_THRESHOLD",
    "Detection",
    "Detector",
    "KeyScore",
    "Keyring",
    "KeyringError",
    "MarkKey",
    "MarkedSpan",
    "UnknownMarkKey",
    "detect",
]
