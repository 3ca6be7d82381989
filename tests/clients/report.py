"""Run a library's checks, and its example in docs/guides/clients.md; write what each gave, or what it raised, as JSON.

python report.py ask_litellm.py page_litellm.py litellm.json
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else value


def outcome(check: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"answer": plain(check())}
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)[:500]}


script, page, out = sys.argv[1:]
checks: dict[str, Callable[[], Any]] = runpy.run_path(script)["CHECKS"]
# Four at a time: an engine answers several in little more time than one.
with ThreadPoolExecutor(4) as pool:
    seen = dict(zip(checks, pool.map(outcome, checks.values()), strict=True))
seen["page"] = outcome(lambda: runpy.run_path(page)["answer"])
Path(out).write_text(json.dumps(seen))
