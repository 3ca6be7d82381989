"""garak as an outside suite: its command for our target, and its report in the form of ours.

garak is not part of Signet: it is looked for on PATH, and told everything by its documented options.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from training.redteam.errors import SuiteError, TargetError
from training.redteam.report import SCHEMA
from training.redteam.statistics import Share
from training.redteam.target import Target

DEFAULT_PROBES = "promptinject,dan,encoding,latentinjection"


@dataclass(frozen=True)
class GarakRun:
    """What garak is told to do."""

    probes: str = DEFAULT_PROBES
    seed: int = 0
    concurrency: int = 8
    answers: int = 1
    """To each prompt; garak's own default is 5."""
    limit: int | None = None
    """Prompts of each probe, as far as the probe heeds it: garak calls it a soft cap, and sets 256."""


def garak_command(program: str, target: Target, run: GarakRun, prefix: Path) -> list[str]:
    """The command line. The key is no part of it: garak reads it from its environment.

    Without being told otherwise garak has answers end at the first `#` or `;`, before much that its detectors look for.
    """
    options = {"openai": {"OpenAICompatible": {"uri": target.url, "max_tokens": target.max_tokens, "stop": None}}}
    return [
        program,
        *("--target_type", "openai.OpenAICompatible"),
        *("--target_name", target.model),
        *("--generator_options", json.dumps(options)),
        *("--probes", run.probes),
        *("--seed", str(run.seed)),
        *("--generations", str(run.answers)),
        *("--parallel_attempts", str(run.concurrency)),
        *("--report_prefix", str(prefix)),
        *(("--config", f"{prefix}.config.json") if run.limit else ()),
    ]


def run_garak(target: Target, run: GarakRun, out: Path) -> dict[str, Any]:
    """Run it on our target and read its report; raises TargetError where it is not there or fails."""
    program = shutil.which("garak")
    if program is None:
        raise TargetError("garak is not on PATH: install it in an environment of its own (pip install garak)")
    prefix = out.absolute() / "garak"
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    environment = {**os.environ, "OPENAICOMPATIBLE_API_KEY": target.key or "none"}
    Path(f"{prefix}.config.json").write_text(json.dumps({"run": {"soft_probe_prompt_cap": run.limit}}))
    code = subprocess.run(garak_command(program, target, run, prefix), env=environment).returncode
    log = Path(f"{prefix}.report.jsonl")
    if code or not log.exists():
        raise TargetError(f"garak ended with exit code {code}: see its output above")
    return read_garak_log(log, target.identity(), time.monotonic() - clock, started)


def read_garak_log(path: Path, identity: dict[str, Any], seconds: float = 0.0, started: str = "") -> dict[str, Any]:
    """A report of ours from garak's: its probes are suites, their detectors categories, and what failed got through."""
    evaluations, version = [], None
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
            kind = entry.get("entry_type", "")
        except (ValueError, AttributeError):
            continue  # a line that garak was writing when it was stopped
        version = version or entry.get("garak_version") or entry.get("_config.version")
        if kind == "eval":
            evaluations.append(entry)
    if not evaluations:
        raise SuiteError(f"{path} holds no evaluation of garak")
    name = identity["name"]
    through: dict[str, list[Share]] = {}
    unanswered: dict[str, int] = {}
    by_category = []
    for entry in evaluations:
        total = int(entry.get("total_evaluated", entry.get("total", 0)))
        share = Share(total - int(entry["passed"]), total)
        through.setdefault(entry["probe"], []).append(share)
        # A request that was refused with 400 is among them: garak does not tell a guard's refusal from a failure.
        unanswered[entry["probe"]] = max(unanswered.get(entry["probe"], 0), int(entry.get("nones", 0)))
        by_category.append({"group": f"{entry['probe']}: {entry['detector']}", "shares": {name: share.to_json()}})
    # Several detectors see the same answers: the one that found most stands for its probe.
    worst = {probe: max(shares, key=lambda share: (share.count, share.total)) for probe, shares in through.items()}
    total_share = Share(sum(share.count for share in worst.values()), sum(share.total for share in worst.values()))
    return {
        "schema": SCHEMA,
        "started": started,
        "seconds": round(seconds, 1),
        "complete": True,
        "configuration": {"tool": f"garak {version}" if version else "garak", "probes": sorted(through)},
        "targets": [identity],
        "totals": [
            {
                "target": name,
                "attacks": total_share.to_json(),
                "over_refusal": Share(0, 0).to_json(),
                "outcomes": {"held": total_share.total - total_share.count, "through": total_share.count},
                "errors": sum(unanswered.values()),
                "seconds_median": None,
            }
        ],
        "stopped": None,
        "by_suite": [{"group": probe, "shares": {name: worst[probe].to_json()}} for probe in sorted(worst)],
        "by_category": sorted(by_category, key=lambda row: str(row["group"])),
        "by_mutator": [],
        "over_refusal": [],
        "codes": [],
        "examples": [],
    }
