"""Tokenizers: what maps text to the ids that a model reads, and back."""
