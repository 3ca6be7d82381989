"""Prompts are looked at once more when the chat template has put them together, inside vLLM's server.

In come the conversation and the prompt that vLLM rendered from it; out goes a refusal where the template made a control
token of a client's words. vLLM loads it through the entry point group `vllm.general_plugins`, in each of its processes,
so nothing is imported here before it is needed.
"""

_RENDERER = ("serving.engine.rendering.renderer", "CheckedRenderer")


def register() -> None:
    """Have vLLM render chats of Hugging Face tokenizers with our renderer, which is its own and a look behind it."""
    from vllm.renderers.registry import RENDERER_REGISTRY

    RENDERER_REGISTRY.register("hf", *_RENDERER)


def is_registered() -> bool:
    """Whether this process renders so: not if its environment's installation of Signet is older than this code."""
    from vllm.renderers.registry import RENDERER_REGISTRY

    return bool(RENDERER_REGISTRY.renderers.get("hf") == _RENDERER)


__all__ = ["is_registered", "register"]
