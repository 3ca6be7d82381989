"""Measuring a checkpoint: which model a reference means, loading it, and its perplexity on chats.

In come a reference (`NAME[@VERSION]`, a digest or a folder) and encoded examples; out comes a `Perplexity`.
Importing this package does not import torch; its modules `loading` and `perplexity` do.
"""

from training.evaluate.source import Source, resolve_source

__all__ = ["Source", "resolve_source"]
