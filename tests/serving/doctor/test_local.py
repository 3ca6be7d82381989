"""Findings about settings, files, home, keys, ports and model."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadtests.tools.certificate import Authority
from serving.doctor.contradictions import check_contradictions
from serving.doctor.files import check_files
from serving.doctor.home import check_home
from serving.doctor.keys import check_keys
from serving.doctor.model import check_model
from serving.doctor.ports import check_ports
from serving.doctor.services import check_services
from serving.doctor.volume import GB, judge_volume
from serving.provenance import Keyring
from serving.provenance.receipts import ReceiptKeys
from serving.settings import Settings
from tests.serving.doctor.examined import said

Make = Callable[..., Settings]
NOBODY = 65534


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("sections", "severity", "what"),
    [
        pytest.param({"gateway": {"models": {"a": "b", "b": "c"}}}, "error", "'b' is another configured", id="chain"),
        pytest.param({"gateway": {"engine_urls": ["ftp://x"]}}, "error", "not of the form http://HOST:PORT", id="url"),
        pytest.param({"gateway": {"engine_tls": {"ca": "/none"}}}, "error", "gateway.engine_tls: cannot", id="ca"),
        pytest.param({"gateway": {"port": 8123}, "drift": {"port": 8123}}, "error", "are both 8123", id="ports"),
        pytest.param({"gateway": {"admission": {"engine_priority": True}}}, "error", "engine_priority", id="priority"),
        pytest.param({"gateway": {"circuit": {"backoff_s": 60}}}, "warning", "above max_backoff_s", id="backoff"),
        pytest.param({"gateway": {"admission": {"max_queued": 9}}}, "warning", "above max_queued", id="queue"),
        pytest.param({"gateway": {"max_body_bytes": 2**30}}, "error", "above http.max_buffered_bytes", id="bodies"),
        pytest.param({"ledger": {"commit_timeout_s": 1}}, "warning", "below busy_timeout_s", id="commit"),
    ],
)
def test_settings_that_do_not_go_together(
    settings: Make, sections: dict[str, object], severity: str, what: str
) -> None:
    [finding] = said(check_contradictions(settings(**sections)))

    assert finding[0] == severity
    assert what in finding[1]


@pytest.mark.parametrize(
    "check", [check_contradictions, check_files, check_home, check_keys, check_ports, check_services]
)
def test_a_fresh_installation_has_no_problem(settings: Make, check: Callable[..., object]) -> None:
    assert said(check(settings())) == []


@pytest.mark.parametrize(
    ("sections", "what"),
    [
        pytest.param({"guard": {"policy": "/none.yaml"}}, "/none.yaml", id="policy"),
        pytest.param({"guard": {"classifiers": {"encoder": "/none"}}}, "/none", id="encoder"),
        pytest.param({"gateway": {"prompts": "/none"}}, "there is no folder /none", id="prompts"),
        pytest.param({"gateway": {"tls": {"certificate": "/c", "key": "/k"}}}, "cannot use certificate /c", id="tls"),
        pytest.param({"gateway": {"model_folders": {"m": "/none"}}}, "holds no tokenizer.json", id="model"),
        pytest.param({"ledger": {"anchors": {"file": "/none/anchors"}}}, "cannot be written", id="anchors"),
        pytest.param(
            {"identity": {"jwt": {"issuer": "https://i", "audience": ["a"], "jwks": "/none"}}}, "/none", id="issuer"
        ),
    ],
)
def test_files_that_are_not_there(settings: Make, sections: dict[str, object], what: str) -> None:
    [(severity, text)] = said(check_files(settings(**sections)))

    assert severity == "error"
    assert what in text


@pytest.mark.parametrize(("days", "severity"), [(-1, "error"), (3, "warning"), (90, None)])
def test_a_certificate_that_ends(settings: Make, tmp_path: Path, days: int, severity: str | None) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", days=days)

    found = said(check_files(settings(gateway={"tls": {"certificate": certificate, "key": key}})))
    assert [severity for severity, _ in found] == ([severity] if severity else [])


def test_a_home_that_cannot_be_made(settings: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    [(severity, what)] = said(check_home(settings(home=tmp_path / "file" / "home")))

    assert severity == "error"
    assert what.endswith(f"{tmp_path / 'file'} is a file")


def test_a_home_that_may_not_be_written(settings: Make, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    before = os.geteuid()
    os.seteuid(before or NOBODY)  # root may write everywhere
    try:
        [(severity, what)] = said(check_home(settings(home=tmp_path / "closed" / "home")))
    finally:
        os.seteuid(before)

    assert severity == "error"
    assert "cannot be written by this user" in what


def test_what_lies_open_or_was_refused_in_the_home(settings: Make) -> None:
    made = settings()
    made.spill_folder.mkdir(parents=True)
    (made.spill_folder / "refused.jsonl").write_text("x")
    (made.home / "first_key").write_text("sk-secret")
    (made.home / "first_key").chmod(0o644)

    found = said(check_home(made))
    assert [what for _, what in found if "open to every user of this machine (mode 0644)" in what]
    assert [what for _, what in found if "the database refused" in what]
    assert "sk-secret" not in str(found)


@pytest.mark.parametrize(
    ("free", "total", "severity"),
    [(GB // 8, 100 * GB, "error"), (GB, 100 * GB, "warning"), (40 * GB, 1000 * GB, None), (GB, 10 * GB, None)],
)
def test_a_volume_that_is_full_or_nearly(free: int, total: int, severity: str | None) -> None:
    assert [severity for severity, _ in said(judge_volume("it", free, total))] == ([severity] if severity else [])


def test_keys_that_are_open_damaged_or_from_the_future(settings: Make) -> None:
    made = settings()
    Keyring.open(made.keyring_file, create=True)
    ReceiptKeys.open(made.receipt_keys_file, create=True)
    assert said(check_keys(made)) == []

    made.keyring_file.chmod(0o620)
    document = json.loads(made.receipt_keys_file.read_text())
    document["keys"][0]["created_at"] = int(time.time()) + 3600
    made.receipt_keys_file.write_text(json.dumps(document))
    open_to_group, of_tomorrow = said(check_keys(made))
    assert "may be changed by its group (mode 0620)" in open_to_group[1]
    assert "holds a key that was made" in of_tomorrow[1]

    made.keyring_file.chmod(0o604)
    made.receipt_keys_file.write_text("{")
    open_to_all, damaged = said(check_keys(made))
    assert (open_to_all[0], damaged[0]) == ("error", "error")
    assert "open to every user" in open_to_all[1]
    assert "is damaged" in damaged[1]


def test_a_port_that_another_program_has(settings: Make, taken_port: int) -> None:
    [(severity, what)] = said(check_ports(settings(gateway={"port": taken_port})))

    assert severity == "error"
    assert what == f"cannot listen on 127.0.0.1:{taken_port}: address already in use"


def test_models_that_are_not_there_or_not_signed(settings: Make, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    folder = str(tmp_path / "model")

    assert [
        what.partition(" in ")[0] for _, what in said(check_model(settings(engine={"model": "nobodys-model"})))
    ] == ["engine.model: no checkpoint named 'nobodys-model'"]
    assert said(check_model(settings(engine={"model": "./none"}))) == [
        ("error", "engine.model: none is no folder with a model's config.json")
    ]
    assert said(check_model(settings(engine={"model": folder}))) == [
        ("error", "engine.model: no signed manifest vouches for model")
    ]
    assert said(check_model(settings(engine={"model": folder, "allow_unverified": True}))) == []


def test_a_machine_too_small_for_the_model(settings: Make, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    engine = {"model": str(tmp_path), "allow_unverified": True, "kv_cache_gb": 100_000, "device": "cpu"}

    [(severity, what)] = said(check_model(settings(engine=engine)))
    assert severity == "error"
    assert what.startswith("the engine needs about")


def test_a_collector_that_is_gone_and_an_issuer_without_keys(settings: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    jwt = {"issuer": f"http://127.0.0.1:{port}", "audience": ["signet"]}
    issuer, collector = said(
        check_services(settings(telemetry={"otlp_endpoint": f"http://127.0.0.1:{port}"}, identity={"jwt": jwt}))
    )

    assert issuer == ("error", f"the keys of the token issuer http://127.0.0.1:{port} cannot be had")
    assert collector[0] == "warning"
    assert collector[1].startswith("telemetry.otlp_endpoint: 127.0.0.1 cannot be reached")
