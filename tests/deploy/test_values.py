"""The values: each is described, strictly typed, used, and in the documentation's table."""

import json
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "signet"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())

# Objects whose keys are the user's own, or another program's to check.
OPEN = {"config", "settings", "trustedKeys", "valueFrom", "affinity", "global"}
OPEN |= {"namespaceSelector", "podSelector", "ipBlock", "ports"}  # Kubernetes' own structures
OPEN |= {"extraVolumes", "extraVolumeMounts", "initContainers", "extraObjects", "parentRefs"}
OPEN |= {"annotations", "podAnnotations", "labels", "selector", "nodeSelector", "requests", "limits"}  # maps of strings


def structures(schema: object, name: str = ""):
    """(name, schema) of everything that describes an object."""
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object":
        yield name, schema
    for key, part in {**schema.get("properties", {}), **schema.get("$defs", {})}.items():
        yield from structures(part, key)
    for part in schema.get("oneOf", []):
        yield from structures(part, name)
    yield from structures(schema.get("items"), name)


def leaves(values: object, path: str = ""):
    """Paths of all values in values.yaml; lists and empty mappings are leaves."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path


@pytest.fixture
def table(load_script):
    return load_script("deploy/values_table.py")


def test_every_structure_refuses_unknown_keys():
    for name, schema in structures(SCHEMA):
        is_map = isinstance(schema.get("additionalProperties"), dict)
        assert is_map or name in OPEN or schema.get("additionalProperties") is False, name


def test_every_value_is_described(table):
    rows = dict(table.described(SCHEMA, SCHEMA["$defs"]))

    assert [path for path, description in rows.items() if not description.endswith((".", "?"))] == []


def test_every_value_of_the_file_has_a_row_and_the_other_way_round(table):
    rows = {path for path, _ in table.described(SCHEMA, SCHEMA["$defs"])} - {"engines[].name", "engines[].model"}

    def is_below_a_row(path: str) -> bool:
        return any(path == row or path.startswith(row + ".") for row in rows)

    assert [path for path in leaves(DEFAULTS) if not is_below_a_row(path)] == []
    for path in rows:
        assert table.default_of(DEFAULTS, path)


def test_page_has_the_table_as_it_should_be(table):
    page = table.PAGE.read_text()

    assert page == table.updated(page), "run `python deploy/values_table.py --write`"


def test_table_changes_with_a_description(table, monkeypatch, tmp_path):
    chart = tmp_path / "chart"
    chart.mkdir()
    changed = (CHART / "values.schema.json").read_text().replace("Type of the Service.", "Kind of Service.")
    (chart / "values.schema.json").write_text(changed)
    (chart / "values.yaml").write_text((CHART / "values.yaml").read_text())
    before = table.table()

    monkeypatch.setattr(table, "CHART", chart)

    assert table.table() != before


def test_every_value_is_used():
    """A value that no template reads would be a promise that nothing keeps."""
    templates = "".join(file.read_text() for file in (CHART / "templates").iterdir())

    names = {path.rpartition(".")[2] for path in leaves(DEFAULTS)}

    # Written as a whole, not key by key.
    names -= {"maxSurge", "maxUnavailable", "cpu", "memory", "limits", "requests", "grafana_dashboard"}
    assert [name for name in sorted(names) if f".{name}" not in templates and f'"{name}"' not in templates] == []


def test_manifests_in_the_guide_are_valid():
    guide = (ROOT / "docs" / "guides" / "deploy.md").read_text()
    blocks = [yaml.safe_load(part.partition("```")[0]) for part in guide.split("```yaml\n")[1:]]
    objects = [block for block in blocks if "kind" in block]

    assert {document["kind"] for document in objects} == {"PersistentVolumeClaim", "Pod"}
    for document in objects:
        kubernetes_validate.validate(document, "1.37", strict=True)
