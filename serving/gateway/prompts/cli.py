"""`signet prompts`: look at prompt templates, check them, and see what a request would send."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from serving.gateway.prompts.catalogue import BUILTIN, PREFIX, PromptError, PromptLibrary
from serving.gateway.prompts.template import VariableError
from serving.settings import Settings

_folder = click.option(
    "--folder", metavar="FOLDER", help=f"Folder of templates, or '{BUILTIN}'.  [default: gateway.prompts, else builtin]"
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def prompts() -> None:
    """List, check and render prompt templates."""


@prompts.command("list", epilog="Example: signet prompts list --folder ./prompts")
@_folder
@_as_json
@click.pass_obj
def list_prompts(load_settings: Callable[..., Settings], folder: str | None, as_json: bool) -> None:
    """List the templates with their variables; an asterisk marks those that must be given."""
    templates = _library(load_settings, folder).all()
    if as_json:
        click.echo(json.dumps([template.card() for template in templates], indent=2))
        return
    for template in templates:
        names = [name + ("*" if variable.required else "") for name, variable in template.variables.items()]
        click.echo(f"{template.id:28} {template.description}\n{'':28} {', '.join(names) or '(no variables)'}")


@prompts.command(epilog="Example: signet prompts check ./prompts")
@click.argument("folder", type=click.Path(path_type=Path))
@_as_json
def check(folder: Path, as_json: bool) -> None:
    """Check every template of a folder; exit with 1 and one line where one cannot be used."""
    library = _open(folder)
    ids = [template.id for template in library.all()]
    click.echo(json.dumps({"templates": ids}) if as_json else f"{len(ids)} templates can be used: {', '.join(ids)}")


@prompts.command(epilog="Example: signet prompts render answer --set question='Who?' --set context='Anna wrote it.'")
@click.argument("name")
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="A variable; JSON, or else text. Repeatable.")
@_folder
@_as_json
@click.pass_obj
def render(
    load_settings: Callable[..., Settings], name: str, given: tuple[str, ...], folder: str | None, as_json: bool
) -> None:
    """Show the messages that NAME[@VERSION] makes of values, before the guard has cleaned them."""
    try:
        template = _library(load_settings, folder).find(PREFIX + name.removeprefix(PREFIX))
        messages = template.render(dict(_assignment(assignment, template.variables) for assignment in given))
    except (PromptError, VariableError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        request = {"model": template.model, "messages": messages, **template.parameters.model_dump(exclude_none=True)}
        click.echo(json.dumps(request, indent=2, ensure_ascii=False))
        return
    for message in messages:
        click.echo(f"[{message['role']}]\n{message['content']}\n")


def _library(load_settings: Callable[..., Settings], folder: str | None) -> PromptLibrary:
    return _open(folder or load_settings().gateway.prompts or BUILTIN)


def _open(folder: Path | str) -> PromptLibrary:
    try:
        return PromptLibrary(folder)
    except PromptError as error:
        raise click.ClickException(str(error)) from None


def _assignment(text: str, variables: dict[str, Any]) -> tuple[str, Any]:
    """`NAME=VALUE`; a value is text where the variable is, and JSON where it is not."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
    if name in variables and variables[name].type in ("string", "choice"):
        return name, value
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
