"""What the scripts beside this one share: where the gateway is, and what to ask."""

from __future__ import annotations

import os
from typing import Any

from pydantic import BaseModel, Field

URL, KEY, MODEL = (os.environ[name] for name in ("SIGNET_URL", "SIGNET_KEY", "SIGNET_MODEL"))
V1 = f"{URL}/v1"
WRONG_KEY = "sk-wrong"

QUESTION = "Jane is 7 years old. Record her."
ASKED: list[Any] = [{"role": "user", "content": QUESTION}]
# More than the model's context.
TOO_LONG = "one two three four " * 3000


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)
