"""What the guard costs beside an earlier state of it: `python -m loadtests.guard_stages --before COMMIT`.

Answers and questions of 8 KB, whole, by the guard's default settings; both states take turns in processes of their
own, so that ratios hold on a busy machine. Writes the section `Stages` of docs/benchmarks/guard.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from loadtests.guard_costs import SIZE, another, texts
from loadtests.report import machine
from loadtests.sections import NOTES, table_head, write_section

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "benchmarks" / "guard.md"
ROUNDS = 3
_SCANS = 20
_FOREIGN = {
    "Russian": "\u041e\u0442\u0447\u0451\u0442 \u0433\u043e\u0442\u043e\u0432, \u0437\u0430\u0432\u0442\u0440\u0430. ",
    "Persian": "\u06af\u0632\u0627\u0631\u0634: \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645. ",
    "Chinese": "\u62a5\u544a\u5df2\u7ecf\u5b8c\u6210\uff0c\u4f1a\u8bae\u5728\u661f\u671f\u4e94\u3002",
    "English with emoji": "All done \u2764\ufe0f, see you on Friday \U0001f469\u200d\U0001f4bb! ",
    "words in pieces": "t\u200bh\u200be\u200b r\u200be\u200bp\u200bo\u200br\u200bt\u200b ",
}


def samples() -> dict[str, str]:
    """Texts of 8 KB, in ASCII and beyond."""
    foreign = {name: (text * (SIZE // len(text) + 1))[:SIZE] for name, text in _FOREIGN.items()}
    return texts(REPOSITORY / "docs") | foreign


def measure() -> dict[str, tuple[float, float]]:
    """Milliseconds for an answer and for a question of each kind, the median of some; of the guard that is imported."""
    from serving.guard import Guard, GuardSettings

    guard = Guard(GuardSettings())

    def ask(text: str) -> None:
        guard.clean_request({"messages": [{"role": "user", "content": text}]}, "chat")

    return {name: (_median(guard.clean_text, text), _median(ask, text)) for name, text in samples().items()}


def _median(call: Callable[[str], object], text: str) -> float:

    taken = []
    for number in range(_SCANS):
        fresh = another(text, number)
        start = time.thread_time()
        call(fresh)
        taken.append(1000 * (time.thread_time() - start))
    return sorted(taken)[_SCANS // 2]


def measured_in(tree: Path) -> dict[str, tuple[float, float]]:
    """The same of the guard in another tree."""
    env = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{REPOSITORY}"}
    code = "import json; from loadtests.guard_stages import measure; print(json.dumps(measure()))"
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=tree, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def report(before: str) -> str:
    """The section's table."""
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(
            ["git", "-C", str(REPOSITORY), "archive", before, "serving", "monitoring"], check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
        rounds = [(measured_in(Path(folder)), measured_in(REPOSITORY)) for _ in range(ROUNDS)]
    about = machine()
    where = f"{about['cores']} cores ({about['cpu']}), Python {about['python']}, load {about['load']}"
    lines = [
        f"`python -m loadtests.guard_stages --before {before}`, {about['date']}; {where}.",
        "Milliseconds of processor time for 8 KB, whole, by default settings: all stages of an answer, and of a "
        f"question. The least of {ROUNDS} rounds in which both took turns.",
        "",
        *table_head("8 KB of", "answer before", "now", "ratio", "question before", "now", "ratio"),
    ]
    for name in samples():
        cells = []
        for side in (0, 1):
            was, now = (min(each[state][name][side] for each in rounds) for state in (0, 1))
            cells += [f"{was:.2f}", f"{now:.2f}", f"{now / was:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


@click.command()
@click.option("--before", required=True, help="Commit to compare with.")
def main(before: str) -> None:
    """Time both and write one table."""
    made = report(before)
    click.echo(made)
    write_section(PAGE, "Stages", f"{made}\n\n{NOTES}")


if __name__ == "__main__":
    main()
