"""Checkpoints for programs that are not ours: llama.cpp, ONNX Runtime, a browser.

In goes a verified checkpoint; out comes a folder with the model in the other form, the checkpoint's own signed
manifest, and a signed `export.json` that says what was made of it. Nothing is written where the result does not say
the same.
"""
