"""Reads a policy file; what is wrong with it is told with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from serving.guard.classifiers import ClassifierPool
from serving.guard.policy.model import PolicyFile
from serving.guard.policy.patterns import PatternError
from serving.guard.policy.policy import Policy

MAX_FILE_BYTES = 1024 * 1024

_Model = TypeVar("_Model", bound=BaseModel)


class PolicyError(ValueError):
    """A policy file cannot be used. `problems` are lines that say where and why; `str()` is the first of them."""

    def __init__(self, problems: list[str]) -> None:
        more = (
            f" (and {len(problems) - 1} more mistakes; signet policy check shows them)." if len(problems) > 1 else "."
        )
        super().__init__(problems[0].removesuffix(".") + more)
        self.problems = problems


def read_policy(path: Path) -> Policy:
    """Raises: PolicyError."""
    file = read_yaml(path, PolicyFile)
    try:
        return Policy(file)
    except PatternError as error:
        raise PolicyError([f"{path}: {error}."]) from None


def require_classifiers(path: Path, policy: Policy, pool: ClassifierPool) -> None:
    """Raises: PolicyError: a principle asks a classifier that is not there, or for what it does not tell."""
    problems = []
    for principle in policy.file.principles:
        check = principle.check.classifier
        if check is None:
            continue
        if check.name not in pool.names:
            known = ", ".join(sorted(pool.names))
            problems.append(f"{path}: {principle.id}: there is no classifier {check.name!r}; known here: {known}.")
        elif check.category not in pool.categories(check.name):
            known = ", ".join(pool.categories(check.name))
            problems.append(f"{path}: {principle.id}: {check.name!r} tells no {check.category!r}, but: {known}.")
    if problems:
        raise PolicyError(problems)


def read_yaml(path: Path, model: type[_Model]) -> _Model:
    """A YAML file as a model of ours. Raises: PolicyError."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PolicyError([f"{path}: larger than {MAX_FILE_BYTES} bytes."])
        text = path.read_text()
        node = yaml.compose(text, Loader=_Loader)
        values = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PolicyError([f"{path}: cannot be read: {reason}."]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise PolicyError(
            [f"{path}{where}: not valid YAML: {getattr(error, 'problem', None) or 'unreadable'}."]
        ) from None
    except RecursionError:
        raise PolicyError([f"{path}: nested too deeply."]) from None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise PolicyError([_problem(path, node, problem) for problem in problems]) from None


class _Loader(yaml.SafeLoader):
    """A key given twice is a mistake: YAML would drop the first one silently."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key, _ in node.value:
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _problem(path: Path, root: yaml.Node | None, problem: Any) -> str:
    """One mistake as one line: the file, the line, the field, what is wrong."""
    steps, line = [str(step) for step in problem["loc"]], _line(root, problem["loc"])
    said = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        said = "there is no such key"
    elif problem["type"] == "missing":
        said = "is missing"
    field = f"{'.'.join(steps)}: " if steps else ""
    return f"{path}:{line}: {field}{said}."


def _line(node: yaml.Node | None, steps: tuple[Any, ...]) -> int:
    """The line of the deepest part of the file that a path of keys leads to."""
    line = node.start_mark.line + 1 if node is not None else 1
    for step in steps:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == str(step)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line
