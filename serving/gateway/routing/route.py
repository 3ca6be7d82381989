"""Where the request for a configured name goes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from serving.gateway.settings.routing import ShadowSettings


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request for a configured name goes.

    `name` is what the client asked for, `model` what the engine is asked for; `only` matches the names of the engines
    that may answer.
    """

    name: str
    model: str
    only: re.Pattern[str] | None = None
    shadow: ShadowSettings | None = None

    def allows(self, engine: str) -> bool:
        """Whether the engine of this name may answer."""
        return self.only is None or self.only.fullmatch(engine) is not None
