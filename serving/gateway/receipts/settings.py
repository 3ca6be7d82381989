"""Settings of receipts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ReceiptSettings(BaseModel):
    """Signed statements about answers."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    enabled: bool = True
    """Sign a receipt for every complete answer."""

    issuer: str = Field(default="signet", pattern=r"^[!-~]{1,200}$")
    """Who signs, as the receipt says it: best the gateway's public URL, below which its keys are published."""

    keys: Path | None = None
    """File with the keys that sign; default: receipt-keys.json in `home`. Made where there is none."""

    when_unusable: Literal["refuse", "run"] = "refuse"
    """When that file can be neither read nor made at the start: `refuse` to start, or `run` without receipts."""
