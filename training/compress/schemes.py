"""The ways of storing weights, by name. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

Method = Literal["w8a8", "rtn", "gptq", "awq", "awq-gptq"]

FORM = "METHOD[-sym|-asym][-gN][-mixed], METHOD being w8a8, rtn, gptq, awq or awq-gptq"

_NAME = re.compile(
    r"(?P<method>w8a8|rtn|gptq|awq-gptq|awq)(?:-(?P<zero>a?sym))?(?:-g(?P<group>\d{1,3}))?(?P<mixed>-mixed)?"
)
# What GPTQ's checkpoints were called first; still taken.
_OLDER = {"w4a16-gptq": "gptq"}
# vLLM's kernels for CPUs and GPUs have these.
_GROUP_SIZES = (32, 64, 128)
# AutoGPTQ's checkpoints had no zero points, AutoAWQ's had: what is known by these names.
_SYMMETRIC = {"rtn": True, "gptq": True, "awq": False, "awq-gptq": False}


@dataclass(frozen=True)
class Scheme:
    """How to store weights, and how to choose the stored values."""

    name: str
    """As it was written; the checkpoint's name ends in it."""
    method: Method
    """`w8a8` has 8 bits, for weights and activations, all others 4 for weights alone."""
    symmetric: bool = True
    """Whether a group of weights has a scale alone, or a scale and a zero point."""
    group_size: int | None = None
    """Weights that share a scale; None for 64, or 32 where 64 does not divide the columns."""
    mixed: bool = False
    """Whether the matrices that rounding hurts most stay in 8 bits, calculated with as in `w8a8`."""

    def as_job(self) -> dict[str, Any]:
        """What the worker is told."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


def parse_scheme(name: str) -> Scheme:
    """Read a scheme's name, such as `gptq-asym-g32`; raises ValueError with the form of names."""
    match = _NAME.fullmatch(_OLDER.get(name, name))
    if match is None:
        raise ValueError(f"{name!r} is not a scheme: write {FORM}")
    method, zero, group, mixed = match["method"], match["zero"], match["group"], match["mixed"]
    if method == "w8a8":
        if zero or group or mixed:
            raise ValueError(f"{name!r} is not a scheme: w8a8 has one scale a row, and nothing else to choose")
        return Scheme(name, "w8a8")
    if group and int(group) not in _GROUP_SIZES:
        raise ValueError(f"{name!r} is not a scheme: groups have {', '.join(map(str, _GROUP_SIZES))} weights")
    symmetric = _SYMMETRIC[method] if zero is None else zero == "sym"
    return Scheme(name, cast("Method", method), symmetric, int(group) if group else None, bool(mixed))
