"""What is sent, in the parts that mutators change: the attack's own words, what they stand in, what goes before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Message = dict[str, Any]
"""A message of OpenAI's chat API."""

TOOL_CALL_ID = "call_redteam1"


@dataclass(frozen=True)
class Prompt:
    """One conversation up to the answer that is judged."""

    attack: str
    frame: str = "{attack}"
    """The text around the attack: a mail, a page, a table."""
    system: str | None = None
    before: tuple[Message, ...] = ()
    """Turns that are told to have been: the target does not answer them."""
    asked: tuple[str, ...] = ()
    """The user's turns that the target answers before the last one."""
    role: Literal["user", "tool"] = "user"

    @property
    def last(self) -> Message:
        """The message that carries the attack."""
        message: Message = {"role": self.role, "content": self.frame.replace("{attack}", self.attack)}
        return {**message, "tool_call_id": TOOL_CALL_ID} if self.role == "tool" else message

    @property
    def told(self) -> list[Message]:
        """Everything before the first turn that is asked."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, *self.before]

    @property
    def turns(self) -> list[Message]:
        """The turns that the target answers, one after the other."""
        return [*({"role": "user", "content": text} for text in self.asked), self.last]
