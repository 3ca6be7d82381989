"""Run a library's checks, and its example in docs/guides/clients.md; write what each gave, or what it raised, as JSON.

python report.py ask_litellm.py page_litellm.py litellm.json
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else value


script, page, out = sys.argv[1:]
checks = runpy.run_path(script)["CHECKS"]
seen = {}
for name, check in {**checks, "page": lambda: runpy.run_path(page)["answer"]}.items():
    try:
        seen[name] = {"answer": plain(check())}
    except Exception as error:
        seen[name] = {"error": type(error).__name__, "message": str(error)[:500]}
Path(out).write_text(json.dumps(seen))
