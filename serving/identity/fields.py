"""What can be set of a key and of a tenant: the fields, their bounds, and the columns they are stored in."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from typing import Any, TypedDict

from serving.identity.errors import InvalidValue
from serving.identity.principal import ENDPOINTS, MarkDefault

TENANT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
# Names of models as engines and registries write them; `*` makes a pattern of one.
_MODEL_NAME = re.compile(r"[A-Za-z0-9._:/@+*-]{1,255}")
_LIMITS = ("requests_per_minute", "tokens_per_minute", "concurrency")
_LARGEST_LIMIT = 2_000_000_000
_MOST_NAMES = 200
_LONGEST = {"name": 100, "note": 1000}
_LARGEST_PRIORITY = 100
_WEIGHTS = (0.01, 100.0)


class KeyFields(TypedDict, total=False):
    """Settings of one key; None where it says so: no limit, all, never."""

    name: str
    note: str
    admin: bool
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrency: int | None
    models: Sequence[str] | None
    endpoints: Sequence[str] | None
    expires_at: float | None
    mark: MarkDefault
    may_choose_mark: bool


class TenantFields(TypedDict, total=False):
    """Settings of one tenant; limits count for all its keys together."""

    note: str
    suspended: bool
    weight: float
    priority: int
    keep_feedback_text: bool
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrency: int | None


def key_columns(fields: KeyFields) -> dict[str, Any]:
    """The columns that these fields set.

    Raises:
        InvalidValue: one is out of bounds.
    """
    columns: dict[str, Any] = dict(fields)
    _check_common(columns)
    if "*" in (fields.get("models") or ()):
        columns["models"] = None
    for name in ("models", "endpoints"):
        if columns.get(name) is not None:
            columns[name] = json.dumps(sorted(set(columns[name])))
    if "models" in fields and fields["models"] is not None:
        _check_models(fields["models"])
    if "endpoints" in fields and fields["endpoints"] is not None:
        _check_endpoints(fields["endpoints"])
    ends = fields.get("expires_at")
    if ends is not None and not time.time() < ends < 1e11:
        raise InvalidValue("a key must expire in the future; to end one now, revoke it")
    if "mark" in columns:
        columns["mark_default"] = columns.pop("mark")
    if "may_choose_mark" in columns:
        columns["mark_allowed"] = columns.pop("may_choose_mark")
    return columns


def tenant_columns(fields: TenantFields) -> dict[str, Any]:
    """The columns that these fields set.

    Raises:
        InvalidValue: one is out of bounds.
    """
    columns: dict[str, Any] = dict(fields)
    _check_common(columns)
    least, most = _WEIGHTS
    if "weight" in fields and not (math.isfinite(fields["weight"]) and least <= fields["weight"] <= most):
        raise InvalidValue(f"weight must be between {least:g} and {most:g}, not {fields['weight']:g}")
    if "priority" in fields and not abs(fields["priority"]) <= _LARGEST_PRIORITY:
        raise InvalidValue(f"priority must be between -{_LARGEST_PRIORITY} and {_LARGEST_PRIORITY}")
    if "suspended" in columns:
        columns["suspended_at"] = time.time() if columns.pop("suspended") else None
    return columns


def check_tenant_name(name: str) -> None:
    """Names stand in URLs, exports and metrics of others, so they are plain.

    Raises:
        InvalidValue: this one is not.
    """
    if not TENANT_NAME.fullmatch(name):
        raise InvalidValue(
            f"{name[:80]!r} is not a tenant name: use at most 63 lower-case letters, digits, '.', '_', '-', "
            "beginning with a letter or digit"
        )


def _check_common(columns: dict[str, Any]) -> None:
    for name in _LIMITS:
        value = columns.get(name)
        if value is not None and not 1 <= value <= _LARGEST_LIMIT:
            what = name.replace("_", " ")
            raise InvalidValue(f"{what} must be between 1 and {_LARGEST_LIMIT}, not {value}; leave it out for no limit")
    for name, longest in _LONGEST.items():
        text = columns.get(name, "")
        if len(text) > longest or not text.isprintable():
            raise InvalidValue(f"{name} must be one line of at most {longest} characters")


def _check_models(models: Sequence[str]) -> None:
    if not 1 <= len(models) <= _MOST_NAMES:
        raise InvalidValue(f"name between 1 and {_MOST_NAMES} models, or none for all")
    for name in models:
        if not _MODEL_NAME.fullmatch(name):
            raise InvalidValue(f"{name[:80]!r} is not a model's name or a pattern such as 'llama-*'")


def _check_endpoints(endpoints: Sequence[str]) -> None:
    unknown = sorted(set(endpoints) - set(ENDPOINTS))
    if unknown or not endpoints:
        problem = f"{unknown[0][:80]!r} is no endpoint" if unknown else "no endpoint is named"
        raise InvalidValue(f"{problem}; there are {', '.join(ENDPOINTS)}")
