"""Findings about engines, over real HTTP."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from serving.doctor.engines import check_engines
from serving.doctor.finding import NotChecked
from serving.identity import Identity
from serving.settings import Settings
from tests.serving.doctor.examined import Engine, said
from tests.support.running import free_port

Make = Callable[..., Settings]
Start = Callable[..., Engine]
OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def in_front_of(settings: Make, *urls: str, **gateway: object) -> Settings:
    return settings(gateway={"engine_urls": list(urls), **gateway})


def test_a_sound_engine(settings: Make, start_engine: Start) -> None:
    made = in_front_of(settings, start_engine(key="k").url, engine_api_key="k", models={"chat": "tiny"})

    assert said(check_engines(made)) == []


def test_an_engine_that_is_gone(settings: Make) -> None:
    [(severity, what)] = said(check_engines(in_front_of(settings, f"http://127.0.0.1:{free_port()}")))

    assert severity == "error"
    assert "does not answer: cannot connect" in what


def test_an_engine_that_refuses_the_key(settings: Make, start_engine: Start) -> None:
    engine = start_engine(key="right")
    made = in_front_of(settings, engine.url, engine_api_key="wrong-secret")

    assert said(check_engines(made)) == [("error", f"engine {engine.name} refuses the gateway's key")]


def test_names_that_no_engine_serves(settings: Make, start_engine: Start) -> None:
    models = {"chat": {"target": "gone", "canary": {"target": "tiny", "share": 0.5}}}
    made = settings(
        gateway={"engine_urls": [start_engine().url], "models": models},
        prices={"default": {"prompt_per_million": "1"}, "elsewhere": {"prompt_per_million": "1"}},
    )

    assert said(check_engines(made)) == [
        ("error", "gateway.models.chat means 'gone', and no engine serves it; served are: tiny"),
        ("warning", "prices.elsewhere: no engine serves it; served are: tiny"),
    ]


def test_two_checkpoints_under_one_name(settings: Make, start_engine: Start) -> None:
    old, new = start_engine(manifests={"tiny": OLD}), start_engine(manifests={"tiny": NEW})
    [(severity, what)] = said(check_engines(in_front_of(settings, old.url, new.url)))

    assert severity == "error"
    assert what.startswith("engines serve 2 different checkpoints as 'tiny'")
    assert old.name in what
    assert new.name in what


@pytest.mark.parametrize(("mark", "number"), [("on", 1), ("off", 0)])
def test_keys_that_want_marks_of_an_engine_without_the_plugin(
    settings: Make, start_engine: Start, mark: str, number: int
) -> None:
    made = in_front_of(settings, start_engine(plugin=False).url)
    with closing(Identity(made.database_url)) as identity:
        identity.create_key("acme", mark=mark)

    found = said(check_engines(made))
    assert [severity for severity, _ in found] == ["warning"] * number
    assert all("cannot mark" in what for _, what in found)


def test_an_engine_whose_clock_is_off(settings: Make, start_engine: Start) -> None:
    [(severity, what)] = said(check_engines(in_front_of(settings, start_engine(clock_s=-90.0).url)))

    assert severity == "warning"
    assert "s behind this machine's" in what


def test_a_name_without_addresses(settings: Make) -> None:
    [(severity, what)] = said(check_engines(settings(gateway={"engine_dns": ["http://nowhere.invalid:8100"]})))

    assert severity == "error"
    assert what.startswith("no engine is found by dns:nowhere.invalid:8100")


def test_an_engine_whose_port_nobody_knows_is_not_checked(settings: Make) -> None:
    with pytest.raises(NotChecked, match=r"set engine\.port"):
        list(check_engines(settings()))
