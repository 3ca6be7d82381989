"""Settings change in a running process wholly or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from serving.errors import SettingsError
from serving.gateway.build import build
from serving.gateway.process.serve import parts_of
from serving.gateway.reload import Part, Reloader, WatchedFiles
from serving.http.server import Server
from serving.settings import Settings, load_settings

# What docs/guides/operations.md says needs a restart.
FIXED = {"home", "keyring", "engine", "database", "telemetry", "drift"} | {
    *("gateway.host", "gateway.port", "gateway.workers", "gateway.tls"),
    *("identity.limits_url", "identity.limits_timeout_s", "identity.limits_lease_s"),
}  # fmt: skip


def test_every_setting_is_reloaded_or_said_to_need_a_restart(tmp_path: Path):
    settings = load_settings(overrides={"home": tmp_path}, environment={})
    app = build(settings, reload=list)
    server = Server(app.served(), settings.gateway.http, max_body_bytes=settings.gateway.max_body_bytes)
    reloaded = {name for part in parts_of(app, server) for name in part.settings}
    app.pipeline.understand.identity.close()
    every = {
        f"{name}.{field}" if isinstance(value, BaseModel) and name in {"gateway", "identity"} else name
        for name, value in settings
        for field in (type(value).model_fields if isinstance(value, BaseModel) else [""])
    }
    assert reloaded | FIXED == every
    assert not reloaded & FIXED
    said = Path("docs/guides/operations.md").read_text()
    for name in FIXED:
        assert f"`{name.removeprefix('gateway.')}`" in said, f"{name} is not named in docs/guides/operations.md"


class Process:
    """Parts that remember what they run with."""

    def __init__(self, file: Path, broken: str = "") -> None:
        self.file = file
        self.broken = broken
        self.running: dict[str, Settings] = {}
        self.results: list[bool] = []
        start = self.load()
        self.parts = [
            Part(("gateway.max_choices",), self._taker("choices")),
            Part(("guard",), self._taker("guard")),
            Part(("identity.poll_interval_s",), self._taker("identity")),
        ]
        for part in self.parts:
            part.apply(start)
        self.reloader = Reloader(start, self.load, self.parts, self.results.append)

    def load(self) -> Settings:
        return load_settings(self.file, environment={})

    def _taker(self, name: str):
        def take(settings: Settings) -> None:
            if name == self.broken and name in self.running:
                raise ValueError(f"{name} does not like it")
            self.running[name] = settings

        return take


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "signet.yaml"
    path.write_text("gateway: {max_choices: 4}\n")
    return path


def test_a_changed_setting_reaches_its_part_alone(file: Path):
    process = Process(file)
    guard = process.running["guard"]
    file.write_text("gateway: {max_choices: 5}\n")
    assert process.reloader.reload() == ["gateway.max_choices"]
    assert process.running["choices"].gateway.max_choices == 5
    assert process.running["guard"] is guard
    assert process.reloader.reload() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gateway: {max_choices: none}\n", "max_choices"),
        ("gateway: {max_choises: 4}\n", "did you mean"),
        ("gateway: {max_choices: 5\n", "not valid YAML"),
        ("gateway: {max_choices: 5, port: 9000}\n", "gateway.port needs a restart"),
    ],
)
def test_a_bad_file_changes_nothing_and_says_why(file: Path, text: str, said: str):
    process = Process(file)
    file.write_text(text)
    with pytest.raises(SettingsError, match=said):
        process.reloader.reload()
    assert process.running["choices"].gateway.max_choices == 4
    assert process.results == [False]
    file.write_text("gateway: {max_choices: 6}\n")
    process.reloader.reload()
    assert process.running["choices"].gateway.max_choices == 6


def test_a_part_that_refuses_takes_the_others_back(file: Path):
    process = Process(file, broken="identity")
    file.write_text("gateway: {max_choices: 9}\nidentity: {poll_interval_s: 3}\n")
    with pytest.raises(SettingsError, match="identity does not like it"):
        process.reloader.reload()
    assert process.running["choices"].gateway.max_choices == 4


def test_what_changed_before_anybody_followed_the_file_is_noticed(file: Path):
    process = Process(file)
    assert process.reloader.is_current()
    file.write_text("gateway: {max_choices: 5}\n")
    assert not process.reloader.is_current()
    process.reloader.reload()
    assert process.reloader.is_current()
    file.write_text("gateway: {max_choises: 6}\n")
    assert not process.reloader.is_current()


def test_a_change_between_the_first_look_and_the_following_is_seen(file: Path):
    watched = WatchedFiles(lambda: [file])
    file.write_text("gateway: {max_choices: 5}\n# longer\n")

    async def follow() -> bool:
        changed = asyncio.Event()
        following = asyncio.create_task(watched.run(0.001, changed.set))
        await asyncio.wait_for(changed.wait(), 20)
        following.cancel()
        return changed.is_set()

    assert asyncio.run(follow())


def test_a_file_that_is_being_saved_is_read_when_it_is_whole(monkeypatch: pytest.MonkeyPatch):
    looks = iter(["before", "empty", "half", "whole", "whole"])
    monkeypatch.setattr("serving.gateway.reload._fingerprint", lambda paths: next(looks, "whole"))
    watched = WatchedFiles(list)

    async def follow() -> list[str]:
        changed = asyncio.Event()
        following = asyncio.create_task(watched.run(0.001, changed.set))
        await asyncio.wait_for(changed.wait(), 20)
        following.cancel()
        return list(looks)

    assert asyncio.run(follow()) == []


@given(choices=st.lists(st.integers(1, 200), min_size=1, max_size=6))
def test_what_runs_is_always_what_the_last_good_file_says(tmp_path_factory: pytest.TempPathFactory, choices: list[int]):
    file = tmp_path_factory.mktemp("reload") / "signet.yaml"
    file.write_text("gateway: {max_choices: 4}\n")
    process, last_good = Process(file), 4
    for count in choices:
        wrong = count % 3 == 0
        file.write_text(f"gateway: {{max_choices: {0 if wrong else count}}}\n")
        if wrong:
            with pytest.raises(SettingsError):
                process.reloader.reload()
        else:
            process.reloader.reload()
            last_good = count
        assert process.running["choices"].gateway.max_choices == last_good
