"""Suites: named sets of cases. Ours are YAML files beside this module; a user's own have the same form."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.redteam.case import Case, Expectation
from training.redteam.errors import SuiteError
from training.redteam.loaders import LOADERS
from training.redteam.mutators import check_mutators
from training.redteam.prompt import TOOL_CALL_ID, Prompt

FOLDER = Path(__file__).parent / "suites"

DEFAULT_SUITES = (
    "control-tokens",
    "exfiltration",
    "indirect",
    "look-alikes",
    "override",
    "personal-data",
    "secrets",
    "system-prompt",
)
"""All that show by themselves what got through: `harmful`, which has to be judged, is asked for by name."""


@dataclass(frozen=True)
class Suite:
    """What is asked, and the disguises that suit it."""

    name: str
    about: str
    cases: tuple[Case, ...]
    mutators: tuple[str, ...]
    sha256: str
    """Of the file."""


class _Group(BaseModel):
    """Attacks that share everything but their words."""

    model_config = ConfigDict(extra="forbid")

    category: str
    expect: Any
    attacks: list[str] = Field(min_length=1)
    system: str | None = None
    frame: str = "{attack}"
    asked: list[str] = []
    role: Literal["user", "tool"] = "user"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    about: str
    groups: list[_Group] = Field(min_length=1)
    mutators: list[str] = ["plain"]


def packaged_suites() -> list[str]:
    """The names of the suites that come with Signet."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_suite(name: str) -> Suite:
    """A packaged suite by its name, or a file: `FILE.yaml`, `FILE.jsonl`, `KIND:FILE`; raises SuiteError."""
    if name in packaged_suites():
        return _read(FOLDER / f"{name}.yaml", "yaml")
    kind, _, path = name.partition(":")
    if path and kind in LOADERS:
        return _read(Path(path), kind)
    kind = {".yaml": "yaml", ".yml": "yaml", ".jsonl": "jsonl"}.get(Path(name).suffix, "")
    if not kind:
        raise SuiteError(
            f"{name} is neither a suite ({', '.join(packaged_suites())}) nor a file such as .yaml, .jsonl or KIND:FILE "
            f"with KIND one of {', '.join(LOADERS)}"
        )
    return _read(Path(name), kind)


def _read(path: Path, kind: str) -> Suite:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
        if kind == "yaml":
            about, cases, mutators = _from_yaml(path.stem, text)
        else:
            about, cases, mutators = f"{kind} file", LOADERS[kind](path.stem, text), ["plain"]
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise SuiteError(f"{path}: {why}") from None
    if not cases:
        raise SuiteError(f"{path} holds no prompts")
    return Suite(path.stem, about, tuple(cases), tuple(mutators), hashlib.sha256(data).hexdigest())


def _from_yaml(name: str, text: str) -> tuple[str, Sequence[Case], Sequence[str]]:
    try:
        file = _File.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    check_mutators(file.mutators)
    cases: list[Case] = []
    for group in file.groups:
        expect = Expectation.read(group.expect)
        if "{attack}" not in group.frame:
            raise ValueError(f"the frame of {group.category} has no place for {{attack}}")
        for attack in group.attacks:
            prompt = Prompt(attack, group.frame, group.system, _told_before(group), tuple(group.asked), group.role)
            cases.append(Case(f"{name}/{len(cases) + 1}", name, group.category, prompt, expect))
    return file.about, cases, file.mutators


def _told_before(group: _Group) -> tuple[dict[str, Any], ...]:
    """A result of a tool needs the call that it answers."""
    if group.role == "user":
        return ()
    call = {"id": TOOL_CALL_ID, "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    return (
        {"role": "user", "content": "Look it up, please."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    )
