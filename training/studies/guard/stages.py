"""What the guard costs beside an earlier state of it: `python -m training.studies.guard.stages --before COMMIT`.

Answers and questions of 8 KB, whole, by the guard's default settings; both states take turns in processes of their
own, so that ratios hold on a busy machine. Writes the section `Stages` of docs/benchmarks/guard.md.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from training.studies.guard.costs import SIZE, scanner, texts, times
from training.studies.sections import GUARD_PAGE, NOTES, REPOSITORY, machine, table_head, write_section

ROUNDS = 3
_TOKEN = re.compile(r"\s?\w{1,5}|\s|[^\w\s]")
"""About what a model sends at a time."""
_COLUMNS = ("answer", "question", "stream")
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
    return texts(REPOSITORY / "docs" / "guides") | foreign


def measure() -> dict[str, list[float]]:
    """Milliseconds for each kind of text, of the guard that is imported: an answer, a question, an answer's stream,
    and the patterns alone, median and 99th percentile."""
    from serving.guard import Guard, GuardSettings
    from serving.guard.detectors import default_detectors

    guard = Guard(GuardSettings())
    masked = GuardSettings().output.acting()
    patterns = scanner([detector for detector in default_detectors() if detector.entity in masked])

    def ask(text: str) -> None:
        guard.clean_request({"messages": [{"role": "user", "content": text}]}, "chat")

    def stream(text: str) -> None:
        cleaner = guard.stream()
        for token in _TOKEN.findall(text):
            cleaner.feed(token)
        cleaner.finish()

    return {
        name: [
            times(guard.clean_text, text, 20)[0],
            times(ask, text, 20)[0],
            times(stream, text, 5)[0],
            *times(patterns, text, 200),
        ]
        for name, text in samples().items()
    }


def measured_in(tree: Path) -> dict[str, list[float]]:
    """The same of the guard in another tree."""
    env = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{REPOSITORY}"}
    code = "import json; from training.studies.guard.stages import measure; print(json.dumps(measure()))"
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
        f"`python -m training.studies.guard.stages --before {before}`, {about['date']}; {where}.",
        "Milliseconds of processor time for 8 KB by default settings: all stages of a whole answer, of a question, and "
        f"of an answer that comes word by word; the least of {ROUNDS} rounds in which both took turns. Patterns: the "
        "detectors alone, now.",
        "",
        *table_head("8 KB of", *_COLUMNS, "patterns, p50 / p99"),
    ]
    for name in samples():
        cells = []
        for side in range(3):
            was, now = (min(pair[state][name][side] for pair in rounds) for state in (0, 1))
            cells.append(f"{was:.2f} → {now:.2f}, ×{now / was:.2f}")
        cells.append(" / ".join(f"{min(now[name][side] for _, now in rounds):.2f}" for side in (3, 4)))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


@click.command()
@click.option("--before", required=True, help="Commit to compare with.")
def main(before: str) -> None:
    """Time both and write one table."""
    made = report(before)
    click.echo(made)
    write_section(GUARD_PAGE, "Stages", f"{made}\n\n{NOTES}")


if __name__ == "__main__":
    main()
