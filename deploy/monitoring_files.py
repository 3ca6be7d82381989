"""Write the chart's dashboards and rules, from `monitoring.dashboards` and `monitoring.alerts`.

python deploy/monitoring_files.py            # exit code 1 when a file is not up to date
python deploy/monitoring_files.py --write
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from monitoring.alerts import GROUPS  # noqa: E402
from monitoring.dashboards import DASHBOARDS  # noqa: E402

FOLDER = ROOT / "deploy" / "helm" / "signet" / "monitoring"
_HEADER = """\
# Made by deploy/monitoring_files.py from monitoring/alerts.
# The chart puts the release's names and objectives in place of these.
"""


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def files() -> dict[Path, str]:
    """Each file with what it should hold."""
    made = {
        FOLDER / f"{name}.json": json.dumps(dashboard.json(), indent=1, ensure_ascii=False) + "\n"
        for name, dashboard in DASHBOARDS.items()
    }
    groups = {"groups": [group.json() for group in GROUPS]}
    rules = yaml.dump(groups, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
    return {**made, FOLDER / "rules.yaml": _HEADER + rules}


def main() -> int:
    """Check the files, or write them."""
    parser = argparse.ArgumentParser(description="Keep the chart's dashboards and rules up to date.")
    parser.add_argument("--write", action="store_true", help="write the files instead of checking them")
    arguments = parser.parse_args()
    stale = [path for path, content in files().items() if not path.exists() or path.read_text() != content]
    if not arguments.write and stale:
        names = ", ".join(path.name for path in stale)
        sys.stderr.write(f"not up to date: {names}. Run `python deploy/monitoring_files.py --write`\n")
        return 1
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(files()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
