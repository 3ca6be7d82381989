from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import SettingsError
from serving.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(**environment: str) -> Settings:
    return load_settings(environment=environment)


def test_defaults_put_all_state_below_home(elsewhere: Path) -> None:
    settings = load()

    assert settings.home == elsewhere / ".signet"
    assert settings.keyring_file == elsewhere / ".signet" / "keyring.json"
    assert settings.database_url == f"sqlite:///{elsewhere}/.signet/signet.db"


def test_options_win_over_variables_and_variables_over_the_file(elsewhere: Path) -> None:
    (elsewhere / "signet.yaml").write_text("gateway: {port: 1, host: a, max_choices: 7}\n")
    environment = {"SIGNET_GATEWAY__PORT": "2", "SIGNET_GATEWAY__HOST": "b"}

    settings = load_settings(None, {"gateway": {"port": 3}, "engine": {}}, environment)

    assert (settings.gateway.port, settings.gateway.host, settings.gateway.max_choices) == (3, "b", 7)


def test_a_section_without_options_leaves_its_variables_in_force() -> None:
    settings = load_settings(None, {"engine": {}}, {"SIGNET_ENGINE__PORT": "8123"})

    assert settings.engine.port == 8123


def test_lists_and_mappings_come_as_json(elsewhere: Path) -> None:
    settings = load(SIGNET_GATEWAY__ENGINE_URLS='["http://a:1"]', SIGNET_GATEWAY__MODEL_FOLDERS='{"m": "/x"}')

    assert settings.gateway.engine_urls == ["http://a:1"]
    assert settings.gateway.model_folders == {"m": Path("/x")}


def test_the_collector_of_opentelemetry_is_taken_over() -> None:
    assert load(OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318").telemetry.otlp_endpoint == "http://c:4318"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("gateway: {prot: 1}", "unknown setting 'gateway.prot'; did you mean 'gateway.port'?", id="typo"),
        pytest.param("nonsense: 1", "unknown setting 'nonsense'", id="unknown"),
        pytest.param("gateway: {port: many}", "setting 'gateway.port'", id="type"),
        pytest.param("gateway: {port: 70000}", "less than or equal to 65535", id="range"),
        pytest.param("gateway: [", "not valid YAML in line", id="yaml"),
        pytest.param("\udcff", "is not text in UTF-8", id="bytes"),
        pytest.param("- 1", "must hold a mapping", id="list"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(text: str, words: str, elsewhere: Path) -> None:
    (elsewhere / "signet.yaml").write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(SettingsError) as caught:
        load()

    assert words in str(caught.value)
    assert "signet.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("SIGNET_GATEWAY__PROT", "did you mean 'gateway.port'?"),
        ("SIGNET_HOEM", "did you mean 'home'?"),
    ],
)
def test_an_unknown_variable_is_an_error(variable: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**{variable: "1"})

    assert variable in str(caught.value)
    assert words in str(caught.value)


def test_secrets_are_masked() -> None:
    shown = load(SIGNET_DATABASE__URL="postgresql://me:hunter2@db/signet").masked()

    assert "hunter2" not in shown
    assert "**" in shown
