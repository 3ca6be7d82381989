"""The documentation tells the truth about the code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import signet

DOCS = Path(__file__).parent.parent / "docs"
README = DOCS.parent / "README.md"


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["settings.md", "commands.md", "fields.md"])
def test_reference_pages_are_up_to_date(page: str) -> None:
    assert (DOCS / page).read_text() == reference().PAGES[page](), "run: python docs/reference.py"


def test_every_setting_says_what_it_means() -> None:
    from serving.settings import Settings

    silent = [name for name, field in reference()._fields(Settings, "") if not field.description]

    assert silent == []


def test_every_command_has_an_example() -> None:
    page = reference().commands_page()
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    leaves = [text for text in sections if "Commands:\n" not in text]

    assert [text.splitlines()[0] for text in leaves if "xample" not in text] == []


def test_every_error_code_is_documented() -> None:
    page = (DOCS / "errors.md").read_text()
    source = "".join(path.read_text() for path in (DOCS.parent / "serving").rglob("*.py"))
    codes = set(re.findall(r'(?:\bcode\s*=|default_code\s*=|_refusal\()\s*"([a-z_]+)"', source))

    assert {code for code in codes if f"`{code}`" not in page} == set()


@pytest.mark.parametrize("page", [*sorted(DOCS.rglob("*.md")), README], ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_commands_in_the_docs_exist() -> None:
    text = "\n".join(page.read_text() for page in [*DOCS.rglob("*.md"), README])
    used = set(re.findall(r"^\s*(?:\$ )?signet ([a-z]+)\b", text, flags=re.MULTILINE))

    assert used <= set(signet.COMMANDS)
