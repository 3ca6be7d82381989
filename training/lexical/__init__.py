"""A classifier that reads which tokens a text holds, beside what its encoder says of the text.

Loaded where classifiers are (`load_classifier`), and by vLLM through the entry point group `vllm.general_plugins`, in
each of its processes, so nothing is imported here before it is needed.
"""

ARCHITECTURE = "LexicalBertForSequenceClassification"
"""In the config of such a checkpoint."""


def register() -> None:
    """Have vLLM serve such checkpoints."""
    from vllm import ModelRegistry

    import training.lexical.bert  # noqa: F401, from here on transformers, and so vLLM, knows its configuration

    ModelRegistry.register_model(ARCHITECTURE, f"training.lexical.engine:{ARCHITECTURE}")


__all__ = ["ARCHITECTURE", "register"]
