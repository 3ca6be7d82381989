"""What a text's tokens say about keys: exact p-values, marked spans, the power of the test, calibration on own text."""

from serving.provenance.detection.calibrate import calibrate
from serving.provenance.detection.drawn import PLAIN, Sampling
from serving.provenance.detection.power import ASSUMED_NATS
from serving.provenance.detection.result import Detection, KeyScore, MarkedSpan, Verdict
from serving.provenance.detection.scoring import DEFAULT_THRESHOLD, detect

__all__ = [
    "ASSUMED_NATS",
    "DEFAULT_THRESHOLD",
    "PLAIN",
    "Detection",
    "KeyScore",
    "MarkedSpan",
    "Sampling",
    "Verdict",
    "calibrate",
    "detect",
]
