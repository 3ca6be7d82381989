"""Writes the reference pages from the code: `python docs/reference.py`. A test fails when they are stale."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

FOLDER = Path(__file__).parent / "reference"
sys.path.insert(0, str(FOLDER.parents[1]))


def settings_page() -> str:
    """Every setting with its default and meaning."""
    from serving.settings import Settings

    lines = [
        "# Settings",
        "",
        "One typed tree. Values come from `signet.yaml` in the working directory (or `--config FILE`, or the file",
        "that `SIGNET_CONFIG` names), above it from `SIGNET_…` variables, above those from command-line options. Two",
        "underscores go one level down: `SIGNET_GATEWAY__PORT=9000` is `gateway.port`. Lists and mappings in",
        "variables are JSON. An unknown setting is an error. `signet serve --print-config` shows the effective tree,",
        "secrets masked.",
        "`OTEL_EXPORTER_OTLP_ENDPOINT`, where set, is the default of `telemetry.otlp_endpoint`.",
        "",
        "This page is made by `python docs/reference.py`.",
        "",
        "| setting | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in _fields(Settings, ""):
        lines.append(f"| `{name}` | {_default(field)} | {_cell(field.description or '')} |")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Every command's help text."""
    os.environ["COLUMNS"] = "100"
    from signet import cli

    lines = ["# Commands", "", "This page is made by `python docs/reference.py`.", ""]
    names = cli.context_settings["help_option_names"]  # as the group hands them down
    for path, command in _commands(cli, ("signet",)):
        # click keeps the option of who asked first, which may have been a test that ran the command without the group.
        command._help_option = None
        context = click.Context(
            command, info_name=" ".join(path), terminal_width=100, max_content_width=100, help_option_names=names
        )
        lines += [f"## {' '.join(path)}", "", "```", command.get_help(context).rstrip(), "```", ""]
    return "\n".join(lines)


def fields_page() -> str:
    """Every endpoint's fields."""
    from serving.gateway.fields.lists import BESIDE_TEMPLATE, FIELDS, REFUSED, TEMPLATE_FIELDS

    lines = [
        "# Fields of requests",
        "",
        "What each endpoint takes, and of what kind; `null` is as good as nothing. What happens to others, and what",
        "an operator can add: [API](api.md#fields).",
        "",
        "This page is made by `python docs/reference.py`.",
        "",
    ]
    for path, fields in FIELDS.items():
        lines += [f"## {path}", "", "| field | must be |", "|---|---|"]
        lines += [f"| `{name}` | {_cell(kind.words)} |" for name, kind in sorted(fields.items())]
        lines.append("")
    lines += ["## Beside a prompt template", ""]
    lines += [f"{', '.join(f'`{name}`' for name in sorted(TEMPLATE_FIELDS))} fill it in. Refused, since they could"]
    lines += ["show or cut its words: " + ", ".join(f"`{name}`" for name in BESIDE_TEMPLATE) + ".", ""]
    lines += ["## Refused everywhere", "", "| field | why |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(why)} |" for name, why in REFUSED.items()]
    return "\n".join(lines) + "\n"


def recipes_page() -> str:
    """Every method of `signet train` with the settings of its recipe."""
    from training.recipes import METHODS

    lines = [
        "# Recipes",
        "",
        "What a recipe's `method` may be, and the settings of each. How to write and run one:",
        "[train](../guides/train.md).",
        "A section with a `kind` has the settings of that kind; `adapter: lora` is short for `adapter: {kind: lora}`.",
        "",
        "This page is made by `python docs/reference.py`.",
        "",
        "| method | what it does |",
        "|---|---|",
        *(f"| [`{name}`](#{name}) | {_cell(method.summary)} |" for name, method in METHODS.items()),
        "",
    ]
    for name, method in METHODS.items():
        lines += [
            f"## {name}",
            "",
            inspect.getdoc(method.recipe) or "",
            "",
            "| setting | default | meaning |",
            "|---|---|---|",
        ]
        for at, field in dict(_recipe_fields(method.recipe, "")).items():
            default = "required" if field.is_required() else _default(field) or "none"
            lines.append(f"| {at} | {default} | {_cell(field.description or '')} |")
        lines.append("")
    return "\n".join(lines)


def _recipe_fields(model: type[BaseModel], prefix: str, kinds: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """The settings of a recipe, as the table names them; an optional section is one itself.

    Where a section has several kinds, each kind's settings are named with it: other kinds may mean something else.
    """
    from training.recipes.sections import sections_in

    for name, field in model.model_fields.items():
        sections = list(sections_in(field.annotation))
        if not sections or field.default is None or field.is_required():
            yield f"`{prefix}{name}`{kinds}", field
        for section in sections:
            # A mapping's keys are its user's own.
            keys = "SETTING." if "dict[" in str(field.annotation) else ""
            kind = section.model_fields.get("kind")
            of_kind = "" if kind is None else f" ({', '.join(get_args(kind.annotation))})"
            yield from _recipe_fields(section, f"{prefix}{name}.{keys}", of_kind if len(sections) > 1 else kinds)


PAGES = {
    "settings.md": settings_page,
    "commands.md": commands_page,
    "fields.md": fields_page,
    "recipes.md": recipes_page,
}


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def _commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from _commands(found, (*path, name))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    return "" if value is None else f"`{_cell(str(value))}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())


if __name__ == "__main__":
    main()
