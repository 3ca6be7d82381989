"""Write the tables of the chart's values into docs/reference/chart.md, from its schema, its defaults and RESTARTS.

python deploy/values_table.py            # exit code 1 when the page is not up to date
python deploy/values_table.py --write
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "signet"
PAGE = ROOT / "docs" / "reference" / "chart.md"
BEGIN = "<!-- values: begin (made by deploy/values_table.py) -->\n"
END = "<!-- values: end -->\n"
RESTARTS_BEGIN = "<!-- restarts: begin (made by deploy/values_table.py) -->\n"
RESTARTS_END = "<!-- restarts: end -->\n"

_POD = (
    *("image", "extraArgs", "extraEnv", "resources", "startupSeconds", "preStopSeconds", "drainSeconds"),
    *("topologySpread", "nodeSelector", "tolerations", "affinity", "priorityClassName", "podAnnotations"),
    *("podLabels", "extraVolumes", "extraVolumeMounts", "initContainers"),
)
_NO_POD = ("replicas", "autoscaling", "disruptionBudget", "rollout")

# What a change restarts, by value; a path stands for everything below it, and the longest that fits counts.
RESTARTS: dict[str, list[str]] = {
    "nothing": [
        "config",
        "policy",
        "marks.keyring",
        "receipts.keys",
        *(f"gateway.{name}" for name in [*_NO_POD, "externalEngines", "service", "persistence"]),
        *(f"gateway.{name}" for name in ("ingress", "httpRoute")),
        *(f"engineDefaults.{name}" for name in [*_NO_POD, "tokenizerFolder"]),
        "registry",
        "ledger.port",
        "limits.port",
        "drift",
        "extraObjects",
        "serviceMonitor",
        "monitoring",
        "networkPolicy",
    ],
    "the gateway": [
        *(f"config.{name}" for name in ("home", "keyring")),
        *(f"config.gateway.{name}" for name in ("host", "port", "tls", "drain_delay_s")),
        *(f"config.identity.{name}" for name in ("limits_timeout_s", "limits_lease_s")),
        *(f"gateway.{name}" for name in [*_POD, "workers", "discovery", "persistence.existingClaim"]),
        "receipts.existingSecret",
        "ledger",
        "limits",
    ],
    "the pool's engines": [
        "config.engine",
        "huggingFace",
        *(f"engineDefaults.{name}" for name in [*_POD, "gpus", "gpuResource", "runtimeClassName", "settings"]),
        *(f"engineDefaults.{name}" for name in ("cacheSize", "sharedMemorySize")),
        "engines[].model",
    ],
    "gateway and engines": [
        "config.telemetry",
        "labels",
        "imagePullSecrets",
        "serviceAccountName",
        "user",
        "registry.existingClaim",
        "registry.trustedKeysConfigMap",
        "marks.existingSecret",
        "engineKey",
        "telemetry",
    ],
    "everything: objects get other names": ["nameOverride", "fullnameOverride", "engines[].name"],
}

Schema = dict[str, Any]


def resolve(schema: Schema, definitions: Schema) -> Schema:
    """The schema with its reference followed; what stands beside the reference wins, `properties` are joined."""
    if "$ref" not in schema:
        return schema
    target = resolve(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    beside = {key: value for key, value in schema.items() if key != "$ref"}
    return {**target, **beside, "properties": {**target.get("properties", {}), **beside.get("properties", {})}}


def described(schema: Schema, definitions: Schema, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, description) of every value that can be set, depth first; lists of objects as `path[]`.

    A structure whose parts are described themselves has no row of its own.
    """
    schema = resolve(schema, definitions)
    items = resolve(schema.get("items", {}), definitions)
    parts = schema.get("properties") or items.get("properties") or {}
    if path and (not schema.get("properties")):
        yield path, schema.get("description", "")
    # The parts of a Kubernetes structure (a toleration, a variable) are Kubernetes' to document.
    if items and path != "engines":
        return
    prefix = f"{path}[]." if items else f"{path}." if path else ""
    # A pool repeats all of engineDefaults: only what it adds is listed.
    wanted = {"name", "model"} if path == "engines" else parts.keys() - {"global"}
    for name, part in parts.items():
        if part is not False and name in wanted:
            yield from described(part, definitions, prefix + name)


def default_of(values: dict[str, Any], path: str) -> str:
    """The default as JSON, or a dash where a pool must say."""
    if "[]" in path:
        return "required"
    value: Any = values
    for name in path.split("."):
        value = value[name]
    return f"`{json.dumps(value)}`"


def table() -> str:
    """The table in Markdown."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = [
        f"| `{path}` | {default_of(values, path)} | {description} |"
        for path, description in described(schema, schema["$defs"])
    ]
    return "\n".join(["| value | default | what it does |", "|---|---|---|", *rows]) + "\n"


def restarted_by(path: str) -> str:
    """What a change of the value at `path` restarts, as the table says it."""
    fitting = [
        (len(each), effect) for effect, paths in RESTARTS.items() for each in paths if f"{path}.".startswith(f"{each}.")
    ]
    return max(fitting)[1]


def restarts_table() -> str:
    """The table of what each change restarts, in Markdown."""
    rows = [f"| {effect} | {', '.join(f'`{path}`' for path in paths)} |" for effect, paths in RESTARTS.items()]
    return "\n".join(["| restarts | a change of |", "|---|---|", *rows]) + "\n"


def updated(page: str) -> str:
    """The page with the tables as they should be."""
    for begin, end, content in ((BEGIN, END, table()), (RESTARTS_BEGIN, RESTARTS_END, restarts_table())):
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = before + begin + content + end + after
    return page


def main() -> int:
    """Check the page, or write it."""
    parser = argparse.ArgumentParser(description="Keep the table of values in docs/reference/chart.md up to date.")
    parser.add_argument("--write", action="store_true", help="write the page instead of checking it")
    arguments = parser.parse_args()
    page = PAGE.read_text()
    wanted = updated(page)
    if arguments.write:
        PAGE.write_text(wanted)
    elif page != wanted:
        sys.stderr.write("docs/reference/chart.md is not up to date: run `python deploy/values_table.py --write`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
