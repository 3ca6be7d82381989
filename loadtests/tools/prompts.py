"""What the simulated people say: short questions mostly, some longer, now and then a pasted document."""

from __future__ import annotations

from random import Random
from types import ModuleType

from loadtests.tools.answers import PROSE

# Shared by a tenant's conversations, as an application's is: engines reuse its cached prefix.
SYSTEM = "You are the assistant of a small town's library. Answer in a few plain sentences."

SHORT = (
    "What time does a library usually open?",
    "Explain what a river delta is.",
    "Give me three names for a grey cat.",
    "How do I write a polite reminder?",
    "Why do swallows leave early in some years?",
)
MEDIUM = (
    "I have to give a five minute talk about floods in the last century and I do not know where to begin. "
    "Which three points would you make, and in which order, so that children can follow?",
    "My neighbour keeps bees and the hives stand close to our fence. Write a friendly letter that asks whether "
    "they could be moved a few metres before the summer, without sounding as if I were angry.",
)
FOLLOW_UPS = (
    "Say that more simply.",
    "Can you give an example?",
    "And what would you do in winter?",
    "Shorter, please.",
    "Why?",
)
_DOCUMENT_PARAGRAPHS = (2, 8)  # 60 words each: up to about 600 tokens, within a small model's context


def conversation_opening(random: Random | ModuleType) -> list[dict[str, str]]:
    """The system message and a first question: 6 of 10 short, 3 medium, 1 with a pasted document."""
    kind = random.choices(("short", "medium", "document"), weights=(6, 3, 1))[0]
    if kind == "short":
        question = random.choice(SHORT)
    elif kind == "medium":
        question = random.choice(MEDIUM)
    else:
        document = "\n\n".join([PROSE] * random.randint(*_DOCUMENT_PARAGRAPHS))
        question = f"Summarise this in one sentence.\n\n{document}"
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


def follow_up(random: Random | ModuleType) -> str:
    return str(random.choice(FOLLOW_UPS))
