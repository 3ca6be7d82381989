"""Settings: what is masked by default, unknown names are errors, all are documented."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from serving.guard import GuardSettings
from serving.guard.detectors import default_detectors

DOCS = Path(__file__).parents[3] / "docs"


LET_THROUGH = {"IP_ADDRESS", "BIRTH_DATE", "PERSON_NAME", "STREET_ADDRESS", "POSTAL_CODE", "DOMAIN_NAME"}
"""What ordinary texts are full of."""


def test_every_entity_but_what_ordinary_texts_hold_is_masked_both_ways_by_default() -> None:
    settings = GuardSettings()
    entities = {detector.entity for detector in default_detectors()}

    assert settings.input.masked() == settings.output.masked() == entities - LET_THROUGH
    assert {name.upper() for name in type(settings.input).model_fields} == entities


@pytest.mark.parametrize("values", [{"inputs": {}}, {"input": {"bank": "mask"}}, {"input": {"api_key": "hide"}}])
def test_unknown_names_and_actions_are_errors(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GuardSettings.model_validate(values)


def test_the_guide_names_every_setting_and_entity() -> None:
    page = (DOCS / "guides" / "guard.md").read_text()
    names = {*GuardSettings.model_fields, *type(GuardSettings().input).model_fields}

    assert {name for name in names if f"`{name}`" not in page} == set()
    assert all(f"[{detector.entity}]" in page for detector in default_detectors())
