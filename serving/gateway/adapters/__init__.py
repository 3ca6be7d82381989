"""LoRA adapters that engines serve while they run: named by an administrator, brought to every engine of their base."""

from serving.gateway.adapters.find import find_live_adapter
from serving.gateway.adapters.follow import Adapters

__all__ = ["Adapters", "find_live_adapter"]
