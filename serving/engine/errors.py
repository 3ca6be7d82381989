"""What can go wrong with an engine. `str()` of each error is the one line a user reads.

EngineError
  ModelUnavailable    no such model, or it cannot be fetched or prepared
  ModelRefused        the model exists, but nothing vouches for its bytes, or this machine cannot run it
  EngineFailed        vLLM could not start, or keeps dying
  NotEnoughMemory     the machine is too small for these settings
  PortTaken           another program listens there
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of all errors of this room."""


class ModelUnavailable(EngineError):
    """There is no such model, or it cannot be fetched or prepared."""


class ModelRefused(EngineError):
    """The model exists, but its manifest does not verify, it has none, or this machine has no kernels for it."""


class EngineFailed(EngineError):
    """vLLM could not start, or keeps dying."""


class NotEnoughMemory(EngineError):
    """The machine has less free memory than the engine needs."""


class PortTaken(EngineError):
    """Another program listens on the port."""
