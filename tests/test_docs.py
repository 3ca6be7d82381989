"""The documentation tells the truth about the code."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from click.testing import CliRunner

import signet
from serving import VERSION

REPOSITORY = Path(__file__).parent.parent
DOCS = REPOSITORY / "docs"
REFERENCE = DOCS / "reference"
README = REPOSITORY / "README.md"
PAGES = [*sorted(DOCS.rglob("*.md")), README]
LINKING = [*PAGES, REPOSITORY / "CHANGELOG.md", REPOSITORY / "CONTRIBUTING.md"]


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["settings.md", "commands.md", "fields.md", "recipes.md"])
def test_reference_pages_are_up_to_date(page: str) -> None:
    assert (REFERENCE / page).read_text() == reference().PAGES[page](), "run: python docs/reference.py"


def test_every_setting_says_what_it_means() -> None:
    from serving.settings import Settings
    from training.recipes import METHODS

    page = reference()
    settings = [*page._fields(Settings, "")]
    for name, method in METHODS.items():
        settings += [(f"{name} {at}", field) for at, field in page._recipe_fields(method.recipe, "")]

    assert [name for name, field in settings if not field.description] == []


def test_every_command_has_an_example() -> None:
    page = reference().commands_page()
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    leaves = [text for text in sections if "Commands:\n" not in text]

    assert [text.splitlines()[0] for text in leaves if "xample" not in text] == []


def test_every_error_code_has_one_row() -> None:
    rows = re.findall(r"^\| [\d, ]+ \| ([^|]+) \|", (REFERENCE / "errors.md").read_text(), re.MULTILINE)
    codes = [code for cell in rows for code in re.findall(r"`(\w+)`", cell)]

    assert [code for code, times in Counter(codes).items() if times > 1] == []


def test_rows_of_a_table_stand_together() -> None:
    """A blank line ends a table: rows after it are shown as text."""
    for page in PAGES:
        lines = page.read_text().splitlines()
        for number, line in enumerate(lines):
            begins = line.startswith("|") and not lines[number - 1].startswith("|")
            if begins and not _in_code(lines, number):
                assert re.fullmatch(r"\|(\s*:?-+:?\s*\|)+", lines[number + 1]), f"{page}:{number + 1}"


def test_the_version_is_written_once() -> None:
    chart = yaml.safe_load((REPOSITORY / "deploy" / "helm" / "signet" / "Chart.yaml").read_text())
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    shown = CliRunner().invoke(signet.cli, ["--version"]).output

    assert project["project"]["dynamic"] == ["version"]
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)
    assert shown == f"signet, version {VERSION}\n"
    assert set(re.findall(r"/(?:gateway|engine-\w+):([\d.]+) ", (DOCS / "guides" / "deploy.md").read_text())) == {
        VERSION
    }


def _in_code(lines: list[str], number: int) -> bool:
    return sum(line.lstrip().startswith("```") for line in lines[:number]) % 2 == 1


def test_every_error_code_is_documented() -> None:
    page = (REFERENCE / "errors.md").read_text()
    source = "".join(path.read_text() for path in (DOCS.parent / "serving").rglob("*.py"))
    codes = set(re.findall(r'(?:\bcode\s*=|default_code\s*=|_refusal\()\s*"([a-z_]+)"', source))

    assert {code for code in codes if f"`{code}`" not in page} == set()


@pytest.mark.parametrize("page", LINKING, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)", _without_code(page.read_text()))
    files = [(target, (page.parent / target).resolve() if target else page, anchor) for target, anchor in links]

    assert [target for target, file, _ in files if not file.exists()] == []
    assert [
        f"{target}#{anchor}" for target, file, anchor in files if anchor and anchor not in _anchors(file.read_text())
    ] == []


def test_pages_that_the_code_names_exist() -> None:
    folders = ("serving", "training", "monitoring", "deploy", "loadtests", "recipes", "tests")
    files = [REPOSITORY / "Makefile", *(file for name in folders for file in (REPOSITORY / name).rglob("*.*"))]
    named = {
        (str(file.relative_to(REPOSITORY)), page)
        for file in files
        if file.suffix in {"", ".py", ".yaml", ".tpl", ".mjs"}
        for page in re.findall(r"(?<![\w/])docs/[\w/-]+\.md\b", file.read_text())
    }

    assert [(file, page) for file, page in sorted(named) if not (REPOSITORY / page).exists()] == []


def test_files_that_the_docs_name_exist() -> None:
    """But for decisions, which tell how things were."""
    pages = [page for page in LINKING if page.parent.name != "decisions"]
    pattern = r"(?<![\w/.-])((?:serving|training|monitoring|tests|loadtests|deploy|recipes)/[\w/.-]*\.\w+)\b"
    named = {
        (str(page.relative_to(REPOSITORY)), name) for page in pages for name in re.findall(pattern, page.read_text())
    }

    assert [(page, name) for page, name in sorted(named) if not (REPOSITORY / name).exists()] == []


def _without_code(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def _anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)", _without_code(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_commands_in_the_docs_exist() -> None:
    text = "\n".join(page.read_text() for page in [*DOCS.rglob("*.md"), README])
    used = set(re.findall(r"^\s*(?:\$ )?signet ([a-z]+)\b", text, flags=re.MULTILINE))

    assert used <= set(signet.COMMANDS)
