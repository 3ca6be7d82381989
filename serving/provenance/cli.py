"""`signet marks` and `signet detect`: the keys of the watermark, and whether a text carries a mark."""

from serving.provenance.commands.detect import detect
from serving.provenance.commands.marks import marks

__all__ = ["detect", "marks"]
