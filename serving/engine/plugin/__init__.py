"""Signet's part inside vLLM's processes: the logits processors that mark answers, and their announcement.

In come sampling parameters with a key id, the keyring named by `--additional-config`, and each step's logits; out
go logits in which the keyed choice is certain. Loaded by vLLM through entry points, never by the rest of Signet.
"""

from serving.engine.plugin.announcement import MarkAnnouncement
from serving.engine.plugin.green import GreenProcessor
from serving.engine.plugin.processor import MarkProcessor

__all__ = ["GreenProcessor", "MarkAnnouncement", "MarkProcessor"]
