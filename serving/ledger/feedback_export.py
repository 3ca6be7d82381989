"""Feedback as data: whole rows, or what `signet train` reads (preferences for `dpo`, chats for `sft`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
from sqlalchemy import Engine

from serving.ledger.feedback import Feedback, FeedbackFilter, list_feedback
from training.registry import Registry, RegistryError

Shape = Literal["rows", "dpo", "sft"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
_PAGE = 500


class Origins:
    """What a registry knows of checkpoints by their digests; each is looked up once."""

    def __init__(self, home: Path) -> None:
        self._registry = Registry(home / "registry", home / "keys")
        self._known: dict[str, dict[str, Any]] = {}

    def of(self, manifest: str) -> dict[str, Any]:
        """`checkpoint`, as NAME@VERSION, and the digests of its training `data`; empty where it is not here."""
        if manifest not in self._known:
            self._known[manifest] = self._look_up(manifest) if manifest else {}
        return self._known[manifest]

    def _look_up(self, manifest: str) -> dict[str, Any]:
        try:
            checkpoint = self._registry.resolve(manifest)
        except (RegistryError, OSError):
            return {}
        return {
            "checkpoint": checkpoint.ref,
            "data": [data.model_dump(mode="json") for data in checkpoint.manifest.data],
        }


def feedback_lines(engine: Engine, selection: FeedbackFilter, shape: Shape, origins: Origins) -> Iterator[str]:
    """JSON lines, the oldest feedback first; what has no text for `shape` is left out.

    Raises:
        DatabaseError: the database cannot be read.
    """
    after = 0
    while page := list_feedback(engine, selection, after, _PAGE):
        for row in page:
            content = shaped(row, shape)
            if content is not None:
                yield json.dumps({**content, **origins.of(row.manifest)}) + "\n"
        after = page[-1].id


def shaped(row: Feedback, shape: Shape) -> dict[str, Any] | None:
    """One row in a shape; None: it has not the texts for that.

    `dpo`: the correction is chosen over the answer. `sft`: the correction, or an answer that was rated above 0.
    """
    messages = json.loads(row.messages) if row.messages is not None else None
    if shape == "rows":
        return {**msgspec.structs.asdict(row), "messages": messages}
    from_where = {"request_id": row.request_id, "model": row.model, "manifest": row.manifest}
    if messages is None:
        return None
    if shape == "dpo":
        if not row.correction or not row.answer or row.correction == row.answer:
            return None
        return {"prompt": messages, "chosen": row.correction, "rejected": row.answer, **from_where}
    good = row.correction or (row.answer if (row.rating or 0.0) > 0 else None)
    if not good:
        return None
    return {"messages": [*messages, {"role": "assistant", "content": good}], **from_where}
