"""What is shown of settings: nothing secret, whatever it is called and wherever it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, SecretStr

from serving.gateway.engines.address import Address
from serving.masking import MASK, is_secret_name, masked, masked_text, masked_url
from serving.settings import Settings, load_settings

SECRET = "hunter2"


@pytest.mark.parametrize(
    "words",
    [
        ["--api-key", SECRET],
        ["--api-key", SECRET, SECRET],
        [f"--api-key={SECRET}"],
        ["--hf-token", SECRET],
        [f"--hf_token={SECRET}"],
        ["--some.password", SECRET],
        ["--otlp-traces-endpoint", f"http://user:{SECRET}@collector:4317"],
        [f"--otlp-traces-endpoint=https://{SECRET}@collector"],
        ["--download", f"s3://bucket?access_token={SECRET}&region=x"],
        ["--additional-config", json.dumps({"store": {"password": SECRET}})],
        [f"--additional-config={json.dumps([{'api_key': SECRET}])}"],
    ],
)
def test_no_argument_shows_a_secret(words: list[str]) -> None:
    settings = load_settings(overrides={"engine": {"arguments": words}}, environment={})

    assert SECRET not in settings.masked()


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "NO_PROXY", "ANYTHING"])
def test_no_value_of_an_environment_is_shown(name: str) -> None:
    settings = load_settings(overrides={"engine": {"environment": {name: SECRET}}}, environment={})

    assert SECRET not in settings.masked()
    assert name in settings.masked()


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("gateway", {"engine_urls": [f"http://user:{SECRET}@host:8100"]}),
        ("gateway", {"engine_dns": [f"https://user:{SECRET}@host:8100/v1"]}),
        ("telemetry", {"otlp_endpoint": f"http://user:p@{SECRET}@collector:4318"}),
        ("database", {"url": f"postgresql+psycopg://user:{SECRET}@host/signet"}),
        ("gateway", {"engine_api_key": SECRET}),
    ],
)
def test_no_url_and_no_typed_secret_is_shown(section: str, values: dict[str, Any]) -> None:
    assert SECRET not in load_settings(overrides={section: values}, environment={}).masked()


def test_everything_else_is_shown_as_it_is() -> None:
    arguments = ["--max-model-len", "5", "--ssl-keyfile", "/a/key.pem", "--override", '{"max_tokens": 5}', "plain"]
    shown = yaml.safe_load(load_settings(overrides={"engine": {"arguments": arguments}}, environment={}).masked())

    assert shown["engine"]["arguments"] == arguments
    assert shown["gateway"]["port"] == 8000
    assert shown["home"] == str(Path.cwd() / ".signet")
    assert MASK not in json.dumps(shown)


def test_a_setting_named_after_a_secret_is_no_free_text() -> None:
    """Else `masked` could not tell that it is one."""
    typed = [(name, annotation) for name, annotation in leaves(Settings) if is_secret_name(name)]

    assert SecretStr in {one for _, annotation in typed for one in get_args(annotation)}
    assert [name for name, annotation in typed if str in {annotation, *get_args(annotation)}] == []


def leaves(model: type[BaseModel]) -> list[tuple[str, Any]]:
    """Name and type of every setting below a section."""
    found: list[tuple[str, Any]] = []
    for name, field in model.model_fields.items():
        sections = [
            one
            for one in (field.annotation, *get_args(field.annotation))
            if isinstance(one, type) and issubclass(one, BaseModel)
        ]
        found += [leaf for section in sections for leaf in leaves(section)] or [(name, field.annotation)]
    return found


@pytest.mark.parametrize(
    "url",
    [f"user:{SECRET}@host:1", f"ftp://user:{SECRET}@host", f"http://user:{SECRET}@", f"http://u:{SECRET}/@host:1"],
)
def test_the_error_of_an_unusable_url_shows_no_password(url: str) -> None:
    with pytest.raises(ValueError, match="is not of the form http://HOST:PORT") as error:
        Address.from_url(url)

    assert SECRET not in str(error.value)


def test_texts_without_secrets_stay() -> None:
    for text in ("http://host:8100/v1", "mail jane@example.org", "s3://bucket/key?region=eu", ""):
        assert masked_text(text) == text
    assert masked_url("http://host:8100") == "http://host:8100"
    assert masked({"a": [1, True, None, 2.5]}) == {"a": [1, True, None, 2.5]}
