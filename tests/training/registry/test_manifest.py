import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from training.registry.manifest import (
    FileEntry,
    Histogram,
    Manifest,
    canonical_json,
    check_file_name,
    digest_of_files,
)

FILES = {"model.safetensors": FileEntry(sha256="a" * 64, size=3)}
FACTS = {
    "kind": "base",
    "name": "tiny",
    "version": 1,
    "created": "2026-11-24T00:00:00Z",
    "files": {"model.safetensors": {"sha256": "a" * 64, "size": 3}},
    "digest": digest_of_files(FILES),
}


def test_survives_its_own_bytes() -> None:
    manifest = Manifest.model_validate(FACTS)

    again = Manifest.model_validate_json(manifest.to_bytes())

    assert again == manifest
    assert again.to_bytes() == manifest.to_bytes()


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../b", "a//b", "", ".", "./a", "C:/x", "a\\b", "a\nb", "a/"]
)
def test_file_names_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(ValueError, match="file name"):
        check_file_name(name)
    with pytest.raises(ValidationError):
        Manifest.model_validate({**FACTS, "files": {name: {"sha256": "a" * 64, "size": 3}}})


def test_ordinary_file_names_are_kept() -> None:
    assert check_file_name("sub/model-00001-of-00002.safetensors") == "sub/model-00001-of-00002.safetensors"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../up"),
        ("name", "Upper"),
        ("version", 0),
        ("kind", "something"),
        ("created", "yesterday"),
        ("digest", "sha256:" + "b" * 64),
        ("evaluation", {"perplexity": float("nan")}),
        ("surprise", 1),
    ],
)
def test_wrong_facts_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Manifest.model_validate({**FACTS, field: value})


def test_digest_is_of_content_and_names_only() -> None:
    other_name = {"other": FILES["model.safetensors"]}

    assert digest_of_files(FILES) == digest_of_files(dict(FILES))
    assert digest_of_files(FILES) != digest_of_files(other_name)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_canonical_json_does_not_depend_on_insertion_order(value: object) -> None:
    def reversed_keys(part: object) -> object:
        if isinstance(part, dict):
            return {key: reversed_keys(part[key]) for key in reversed(part)}
        return [reversed_keys(item) for item in part] if isinstance(part, list) else part

    assert canonical_json(value) == canonical_json(reversed_keys(value))
    assert json.loads(canonical_json(value)) == value


@pytest.mark.parametrize(("edges", "counts"), [([0, 1], [1, 2]), ([0], []), ([1, 0], [1]), ([0, 0], [1])])
def test_histograms_need_rising_edges_round_each_count(edges: list[float], counts: list[int]) -> None:
    with pytest.raises(ValidationError):
        Histogram(edges=edges, counts=counts)
