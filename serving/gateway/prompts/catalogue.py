"""All prompt templates of a gateway: read from a folder of YAML files, all or none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from serving.gateway.prompts.template import Template
from serving.gateway.reload import WatchedFiles

log = logging.getLogger(__name__)

PREFIX = "prompt:"
BUILTIN = "builtin"
"""In place of a folder: the examples that come with Signet."""
EXAMPLES = Path(__file__).parent / "examples"
MAX_FILE_BYTES = 256 * 1024
FOLLOW_INTERVAL_S = 1.0


class PromptError(ValueError):
    """A file cannot be used, or a name is unknown; `str()` is one line that names the file or the prompt."""


class PromptLibrary:
    """Templates by name and version. Replaced as a whole, so that a request sees the old ones or the new."""

    LIVE = ("gateway.prompts",)

    def __init__(self, folder: Path | str | None = None) -> None:
        """Raises: PromptError."""
        self._folder = folder
        self._watched_files = WatchedFiles(self._watched)
        self._templates = read_folder(folder)
        self._following: asyncio.Task[None] | None = None

    def apply(self, folder: Path | str | None) -> None:
        """Take another folder.

        Raises:
            PromptError: a file cannot be used; the old templates stay.
        """
        self._templates = read_folder(folder)
        self._folder = folder

    def start(self) -> None:
        """Begin to follow the folder: changed files are read again. Needs a running event loop."""
        self._following = asyncio.create_task(self._watched_files.run(FOLLOW_INTERVAL_S, self.refresh))

    async def stop(self) -> None:
        """Follow no more."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    def refresh(self) -> None:
        """Read the folder again; what cannot be used is logged, and the old templates stay."""
        try:
            self._templates = read_folder(self._folder)
        except PromptError as error:
            log.error("prompt templates not read again", extra={"reason": str(error)})
        else:
            log.info("prompt templates read again", extra={"count": len(self.all())})

    def _watched(self) -> list[Path]:
        return [] if self._folder is None or str(self._folder) == BUILTIN else [Path(self._folder)]

    def find(self, reference: str) -> Template:
        """The template that `prompt:NAME`, the latest version, or `prompt:NAME@VERSION` names.

        Raises:
            PromptError: there is none.
        """
        name, separator, version = reference.removeprefix(PREFIX).partition("@")
        versions = self._templates.get(name)
        if versions is None:
            known = ", ".join(sorted(self._templates)) or "none"
            raise PromptError(f"There is no prompt {name[:80]!r} here. There are: {known}.")
        if not separator:
            return versions[max(versions)]
        template = versions.get(int(version)) if version.isascii() and version.isdigit() and len(version) < 10 else None
        if template is None:
            known = ", ".join(str(version) for version in sorted(versions))
            raise PromptError(f"The prompt {name!r} has no version {version[:20]!r}. It has: {known}.")
        return template

    def all(self) -> list[Template]:
        """Every version of every template, by name and version."""
        return [versions[v] for _, versions in sorted(self._templates.items()) for v in sorted(versions)]

    def cards(self) -> list[dict[str, Any]]:
        """The templates in a list of models."""
        return [template.card() for template in self.all()]


def read_folder(folder: Path | str | None) -> Mapping[str, Mapping[int, Template]]:
    """Every `*.yaml` file of a folder; none for None.

    Raises:
        PromptError: the first file that cannot be used.
    """
    if folder is None:
        return {}
    path = EXAMPLES if str(folder) == BUILTIN else Path(folder)
    if not path.is_dir():
        raise PromptError(f"there is no folder {path} with prompt templates; see the setting 'gateway.prompts'.")
    templates: dict[str, dict[int, Template]] = {}
    for file in sorted(path.glob("*.yaml")):
        template = read_template(file)
        versions = templates.setdefault(template.name, {})
        if template.version in versions:
            raise PromptError(f"{file}: there are two files of {template.id}.")
        versions[template.version] = template
    return templates


def read_template(file: Path) -> Template:
    """Raises: PromptError."""
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise PromptError(f"{file}: larger than {MAX_FILE_BYTES} bytes.")
        return Template.model_validate(yaml.safe_load(file.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{file}: cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise PromptError(f"{file}: not valid YAML{where}.") from None
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        raise PromptError(f"{file}: {field + ': ' if field else ''}{message}.") from None
