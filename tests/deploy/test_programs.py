"""The programs take what the chart tells them: arguments, settings, probes."""

import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import click
import pytest
import yaml

from serving.settings import load_settings
from signet import cli

SECRETS = {
    "SIGNET_DATABASE__URL": "postgresql+psycopg://user:password@host/signet",
    "SIGNET_IDENTITY__LIMITS_URL": "redis://:password@host:6379/0",
}


def environment_of(pod: dict) -> dict[str, str]:
    """The pod's variables, with a stand-in for each secret."""
    return {
        each["name"]: each.get("value", SECRETS.get(each["name"], "a secret"))
        for each in pod["spec"]["containers"][0]["env"]
    }


def settings_of(objects, name: str, folder: Path):
    """The settings as the program in a pod reads them."""
    file = folder / f"{name}.yaml"
    file.write_text(objects.settings_file(name))
    environment = environment_of(objects.pod(name)) | {"SIGNET_CONFIG": str(file)}
    return load_settings(environment=environment)


def test_arguments_are_understood(objects):
    for pod in objects.pods():
        name, *arguments = pod["spec"]["containers"][0]["args"]
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        command.make_context(name, list(arguments))


def test_settings_are_understood(objects, tmp_path):
    for deployment in objects.of("Deployment"):
        name = deployment["metadata"]["name"]
        settings = settings_of(objects, name, tmp_path)
        assert settings.home == Path("/var/lib/signet")


def test_ledger_is_where_the_values_say(chart, tmp_path):
    by_default = settings_of(chart.render({}), "signet-gateway", tmp_path)
    shared = settings_of(chart.render({"ledger": {"existingSecret": "x"}}), "signet-gateway", tmp_path)

    assert by_default.database_url == "sqlite:////var/lib/signet/signet.db"
    assert shared.database_url.startswith("postgresql")


def test_one_keyring_serves_both_sides(chart, tmp_path):
    objects = chart.render({"marks": {"existingSecret": "keyring"}})

    for name in ("signet-gateway", "signet-engine-default"):
        settings = settings_of(objects, name, tmp_path)
        [mount] = [
            each for each in objects.pod(name)["spec"]["containers"][0]["volumeMounts"] if each["name"] == "keyring"
        ]
        assert settings.keyring_file == Path(mount["mountPath"]) / "keyring.json"
        assert settings.engine.arguments == []


def test_receipts_are_signed_where_the_keys_last(chart, tmp_path):
    of_its_own = settings_of(chart.render({}), "signet-gateway", tmp_path)
    objects = chart.render({"ledger": {"existingSecret": "x"}, "receipts": {"existingSecret": "keys"}})
    shared = settings_of(objects, "signet-gateway", tmp_path)
    without = settings_of(chart.render({"ledger": {"existingSecret": "x"}}), "signet-gateway", tmp_path)

    assert of_its_own.receipts.enabled
    assert of_its_own.receipt_keys_file == Path("/var/lib/signet/receipt-keys.json")
    [mount] = [
        each
        for each in objects.pod("signet-gateway")["spec"]["containers"][0]["volumeMounts"]
        if each["name"] == "receipts"
    ]
    assert shared.receipt_keys_file == Path(mount["mountPath"]) / "receipt-keys.json"
    assert shared.receipts.enabled
    assert not without.receipts.enabled


def test_the_policy_lies_where_the_gateway_looks_for_it(chart, tmp_path):
    policy = 'version: 1\nprinciples: [{id: "no-tabs", principle: "a: b"}]\n'
    objects = chart.render({"policy": policy})
    gateway = objects.config_map("signet-gateway")
    [mount] = [
        each
        for each in objects.pod("signet-gateway")["spec"]["containers"][0]["volumeMounts"]
        if each["name"] == "config"
    ]

    assert settings_of(objects, "signet-gateway", tmp_path).guard.policy == Path(mount["mountPath"]) / "policy.yaml"
    assert gateway["data"]["policy.yaml"] == policy
    assert settings_of(objects, "signet-engine-default", tmp_path).guard.policy is None
    assert settings_of(chart.render({}), "signet-gateway", tmp_path).guard.policy is None


def test_engine_without_a_keyring_offers_no_marks(chart, tmp_path):
    """Its plugin would make a keyring of its own, and refuse every key of the gateway's."""
    engine = settings_of(chart.render({}), "signet-engine-default", tmp_path)

    assert engine.engine.arguments == ["--additional-config={}"]
    assert engine.keyring_file.is_relative_to("/tmp")


def test_pool_settings_reach_the_engine(chart, tmp_path):
    objects = chart.render(
        {
            "config": {"engine": {"max_model_len": 1024, "kv_cache_gb": 7}},
            "engines": [
                {
                    "name": "chat",
                    "model": "chat@1",
                    "gpus": 2,
                    "drainSeconds": 77,
                    "settings": {"max_model_len": 8192},
                    "extraArgs": ["--seed", "1"],
                }
            ],
        }
    )

    engine = settings_of(objects, "signet-engine-chat", tmp_path).engine

    assert engine.max_model_len == 8192
    assert engine.kv_cache_gb == 7
    assert engine.drain_s == 77
    assert engine.device == "gpu"
    assert engine.arguments[-4:] == ["--seed", "1", "--tensor-parallel-size", "2"]


@pytest.mark.parametrize("extra", [["--tensor-parallel-size=2"], ["--pipeline-parallel-size", "4"]])
def test_a_pool_that_says_how_to_split_is_left_alone(chart, tmp_path, extra):
    objects = chart.render({"engines": [{"name": "a", "model": "m@1", "gpus": 4, "extraArgs": extra}]})

    assert settings_of(objects, "signet-engine-a", tmp_path).engine.arguments == ["--additional-config={}", *extra]


POOLS = [
    {"name": "a", "model": "chat@3"},
    {"name": "b", "model": "chat@production"},
    {"name": "c", "model": "code", "tokenizerFolder": "code=/var/lib/signet/registry/code/2"},
]


def test_gateway_is_told_every_pool_and_tokenizer(chart, tmp_path):
    objects = chart.render({"gateway": {"externalEngines": ["https://other.example.com"]}, "engines": POOLS})

    gateway = settings_of(objects, "signet-gateway", tmp_path).gateway

    assert gateway.engine_urls == ["https://other.example.com"]
    assert gateway.model_folders == {
        "chat": Path("/var/lib/signet/registry/chat/3"),
        "code": Path("/var/lib/signet/registry/code/2"),
    }
    assert gateway.engine_dns == [f"http://signet-engine-{name}:8100" for name in "abc"]
    for url in gateway.engine_dns:
        host, port = re.fullmatch(r"http://([a-z-]+):(\d+)", url).groups()
        service = objects.one("Service", host)["spec"]
        # A headless Service's name has the address of every pod, and its ports are the pods' own.
        assert service["clusterIP"] == "None"
        [container] = objects.pod(host)["spec"]["containers"]
        assert [each["containerPort"] for each in container["ports"]] == [int(port)]


def test_gateway_watches_the_endpoints_of_every_pool(chart, tmp_path):
    objects = chart.render({"gateway": {"discovery": "endpointSlices"}, "engines": POOLS})

    gateway = settings_of(objects, "signet-gateway", tmp_path).gateway

    assert gateway.engine_dns == []
    assert [each.service for each in gateway.engine_services] == [f"signet-engine-{name}" for name in "abc"]
    for each in gateway.engine_services:
        assert each.port in [port["name"] for port in objects.one("Service", each.service)["spec"]["ports"]]


def test_settings_of_the_values_find_engines_too(chart, tmp_path):
    """What `config` says of sources that the chart has none of is kept; folders are joined."""
    config = {"gateway": {"engine_urls": ["http://e:1"], "model_folders": {"other": "/elsewhere"}}}
    objects = chart.render({"config": config, "engines": POOLS})

    gateway = settings_of(objects, "signet-gateway", tmp_path).gateway

    assert gateway.engine_urls == ["http://e:1"]
    assert set(gateway.model_folders) == {"chat", "code", "other"}


def test_replicas_share_limits_where_the_values_say(chart, tmp_path):
    by_default = settings_of(chart.render({}), "signet-gateway", tmp_path)
    objects = chart.render({"limits": {"existingSecret": "x"}})
    variables = {each["name"]: each for each in objects.pod("signet-gateway")["spec"]["containers"][0]["env"]}

    assert by_default.identity.limits_url is None
    assert variables["SIGNET_IDENTITY__LIMITS_URL"]["valueFrom"]["secretKeyRef"] == {"name": "x", "key": "url"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def status_of(url: str) -> int | None:
    """HTTP status, or None while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None


def test_gateway_serves_its_probes(chart, tmp_path):
    """The real program, as the pod starts it, without any engine: it takes requests, and says when to ask again."""
    objects = chart.render({})
    [container] = objects.pod("signet-gateway")["spec"]["containers"]
    port = free_port()
    config = tmp_path / "signet.yaml"
    config.write_text(objects.settings_file("signet-gateway").replace("signet-engine-default:8100", "127.0.0.1:9"))
    replaced = {"--port=8000": f"--port={port}", "--host=0.0.0.0": "--host=127.0.0.1"}
    arguments = [replaced.get(each, each) for each in container["args"]]
    environment = {"SIGNET_HOME": str(tmp_path), "SIGNET_CONFIG": str(config), "PATH": os.environ["PATH"]}
    log = (tmp_path / "log").open("wb")
    with log, subprocess.Popen(
        [sys.executable, "-m", "signet", *arguments], env=environment, cwd=tmp_path, stdout=log, stderr=log
    ) as program:  # fmt: skip
        try:
            alive = f"http://127.0.0.1:{port}{container['livenessProbe']['httpGet']['path']}"
            deadline = time.monotonic() + 60
            while status_of(alive) is None and program.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            assert status_of(alive) == 200, (tmp_path / "log").read_text()
            assert status_of(f"http://127.0.0.1:{port}{container['readinessProbe']['httpGet']['path']}") == 200
            assert status_of(f"http://127.0.0.1:{port}/readyz/engines") == 503
            assert status_of(f"http://127.0.0.1:{port}/metrics") == 200
        finally:
            program.terminate()
            program.wait(timeout=30)


def test_engines_probe_is_a_path_of_vllm(objects):
    spec = importlib.util.find_spec("vllm")
    if spec is None:
        pytest.skip("needs vLLM, whose routes are read")
    routers = Path(spec.submodule_search_locations[0]) / "entrypoints"
    routes = {
        path
        for file in routers.rglob("*.py")
        for path in re.findall(r"@router\.get\(\s*\"(/[a-z]+)\"", file.read_text())
    }

    for pod in objects.pods():
        [container] = pod["spec"]["containers"]
        if container["name"] == "engine":
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"]["path"] in routes


def test_command_is_what_the_images_start(objects):
    """The images' entrypoint is `signet`: the first argument has to be one of its commands."""
    for pod in objects.pods():
        [container] = pod["spec"]["containers"]
        assert "command" not in container
        assert container["args"][0] == container["name"]


def test_settings_file_is_where_it_is_mounted(objects):
    for pod in objects.pods():
        [container] = pod["spec"]["containers"]
        [mount] = [each for each in container["volumeMounts"] if each["name"] == "config"]
        assert environment_of(pod)["SIGNET_CONFIG"] == mount["mountPath"] + "/signet.yaml"


def test_config_of_the_values_is_kept(chart):
    objects = chart.render({"config": {"guard": {"token_prompts": "refuse"}, "gateway": {"max_body_bytes": 12345678}}})

    rendered = yaml.safe_load(objects.settings_file("signet-gateway"))

    assert rendered == {
        "guard": {"token_prompts": "refuse"},
        "gateway": {
            "max_body_bytes": 12345678,
            "drain_timeout_s": 600,
            "engine_dns": ["http://signet-engine-default:8100"],
            "workers": 1,
        },
    }
