"""Compression: a registered checkpoint in, a smaller one of the same model out, registered and signed.

llmcompressor does the arithmetic. It does not fit beside the engine, so it lives in an environment of its own
(`environment`), which runs one standalone program (`worker`); `process` talks to it, `quantize` says what to do and
registers the result. Importing this package imports neither torch nor transformers.
"""
