"""What the guard has to know of a question while it cleans the answer. It dies with the request, and shows nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from serving.guard.question.system_prompt import SystemPrompt, system_texts
from serving.guard.settings import GuardSettings
from serving.guard.text.values import SeenValues, Vault
from serving.guard.text.visible import VisibleText


class Memory:
    """Of one request."""

    __slots__ = ("json_answer", "prompt", "seen", "vault")

    def __init__(self, vault: Vault | None, seen: SeenValues | None) -> None:
        self.vault = vault
        """The values that placeholders stand for."""
        self.seen = seen
        """The values that the question held."""
        self.prompt: SystemPrompt | None = None
        self.json_answer = False
        """The answer will be JSON."""

    def begin(self, body: dict[str, Any]) -> None:
        """Look at a body that is not cleaned yet."""
        self.json_answer = is_structured(body)
        if self.vault is not None:
            visible = VisibleText()
            # Names that stand in the question already, in whichever field, would be mistaken for placeholders.
            self.vault.avoid([visible.feed(json.dumps(body, ensure_ascii=False)) + visible.finish()])

    def of_free_text(self) -> Memory:
        """The same for what is no JSON beside an answer that is."""
        if not self.json_answer:
            return self
        memory = Memory(self.vault, self.seen)
        memory.prompt = self.prompt
        return memory

    def handed_over(self) -> dict[str, Any]:
        """All of it as plain data, for the process of the answer: to be sent through a pipe, and stored nowhere."""
        return {
            "vault": self.vault.handed_over() if self.vault is not None else None,
            "seen": self.seen.handed_over() if self.seen is not None else None,
            "prompt": self.prompt.handed_over() if self.prompt is not None else None,
            "json_answer": self.json_answer,
        }

    @classmethod
    def taken_over(cls, data: dict[str, Any]) -> Memory:
        """What another process has handed over."""
        vault, seen, prompt = data["vault"], data["seen"], data["prompt"]
        memory = cls(
            Vault.taken_over(vault) if vault is not None else None,
            SeenValues.taken_over(*seen) if seen is not None else None,
        )
        memory.prompt = SystemPrompt.taken_over(*prompt) if prompt is not None else None
        memory.json_answer = data["json_answer"]
        return memory

    def __repr__(self) -> str:
        return f"Memory({self.vault!r}, {self.seen!r}, {self.prompt!r})"


class MemoryRules:
    """What the settings say is remembered of each question."""

    def __init__(self, settings: GuardSettings, secret: bytes) -> None:
        self.pseudonymized = frozenset(_with(settings.input.acting(), "pseudonymize"))
        self.compared = frozenset(_with(settings.output.acting(), "mask_new"))
        self._prompt = settings.system_prompt
        self._secret = secret

    @property
    def anything(self) -> bool:
        return bool(self.pseudonymized or self.compared or self._prompt.canary or self._prompt.max_words)

    def new(self) -> Memory:
        """For one request."""
        vault = Vault(sorted(self.pseudonymized)) if self.pseudonymized else None
        return Memory(vault, SeenValues() if self.compared else None)

    def end(self, memory: Memory, body: dict[str, Any]) -> None:
        """Add the system prompt as the model sees it, of a body that is clean."""
        if not (self._prompt.canary or self._prompt.max_words):
            return
        places = list(system_texts(body))
        texts = [holder[key] for holder, key in places]
        canary = ""
        if self._prompt.canary and places:
            # The same for the same prompt, so that engines keep its prefix.
            digest = blake2b("\0".join(texts).encode("utf-8", "replace"), key=self._secret, digest_size=8)
            canary = f"ref{digest.hexdigest()}"
            holder, key = places[0]
            holder[key] = f"{holder[key]}\n\n({canary})"
        memory.prompt = SystemPrompt(texts if self._prompt.max_words else (), canary)


def _with(actions: dict[str, Any], action: str) -> Iterable[str]:
    return (entity for entity, each in actions.items() if each == action)


_STRUCTURED = ("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar")
_FORMATS = ("response_format", "output_format")
_FORMATS_WITHIN = ("text", "output_config")
"""Fields whose `format` says what the answer shall be (`/v1/responses`, `/v1/messages`)."""
_FORMS = frozenset({*_STRUCTURED, *_FORMATS, *_FORMATS_WITHIN})
_CHATS = frozenset({"chat", "responses", "messages"})


def is_shown(body: dict[str, Any], endpoint: str) -> bool:
    """Whether the answer to a question is prose of a chat; completions continue any text, code most of all."""
    return endpoint in _CHATS and not is_structured(body)


def is_structured(body: dict[str, Any]) -> bool:
    """Whether the answer will have the form that a question asks for: JSON, or what a grammar allows."""
    if _FORMS.isdisjoint(body):
        return False
    for field in _STRUCTURED:
        if body.get(field):
            return True
    for field in _FORMATS:
        if _is_format(body.get(field)):
            return True
    return any(
        isinstance(within := body.get(field), dict) and _is_format(within.get("format")) for field in _FORMATS_WITHIN
    )


def _is_format(wanted: Any) -> bool:
    return isinstance(wanted, dict) and wanted.get("type", "text") != "text"
