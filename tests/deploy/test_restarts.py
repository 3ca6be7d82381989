"""What a changed value restarts: each is changed, and the pods are compared."""

import copy
import runpy
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import yaml
from pydantic import BaseModel

from serving.gateway.build import build
from serving.gateway.process.serve import parts_of
from serving.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "signet"
TABLE = runpy.run_path(str(ROOT / "deploy" / "values_table.py"))
restarted_by = TABLE["restarted_by"]
SCHEMA = yaml.safe_load((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())

PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"

# Values of which every one has an effect where it can have one.
BASE = {
    "config": {"engine": {"max_model_len": 1024}},
    "policy": "version: 1",
    "marks": {"keyring": "{}"},
    "receipts": {"keys": "{}"},
    "ledger": {"url": "postgresql://h/d"},
    "limits": {"url": "redis://h"},
    "engineKey": {"key": "0123456789abcdef"},
    "huggingFace": {"token": "t"},
    "registry": {"trustedKeys": {"ci": PUBLIC_KEY}},
    "engineDefaults": {"gpus": 1},
    "engines": [{"name": "a", "model": "chat@1"}],
}
PEER = [{"podSelector": {}}]
SIGNALS = [{"type": "external", "metric": "m", "target": "1"}]

# Where no value can be made from the schema alone: the value, or a mapping of several that only change together.
CHANGED = {
    "user": 10002,
    "imagePullSecrets": [{"name": "s"}],
    "policy": "version: 2",
    "gateway.externalEngines": ["http://e:1"],
    "gateway.image.digest": "sha256:" + "1" * 64,
    "gateway.resources.requests": {"cpu": "3"},
    "gateway.resources.limits": {"memory": "3Gi"},
    "gateway.autoscaling.signals": SIGNALS,
    "gateway.autoscaling.minReplicas": {"gateway": {"autoscaling": {"minReplicas": 2, "maxReplicas": 3}}},
    "gateway.rollout.maxSurge": 2,
    "gateway.rollout.maxUnavailable": 2,
    "gateway.disruptionBudget.maxUnavailable": 2,
    "gateway.tolerations": [{"key": "k"}],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}],
    "gateway.extraVolumes": [{"name": "v", "emptyDir": {}}],
    "gateway.extraVolumeMounts": [{"name": "tmp", "mountPath": "/v"}],
    "gateway.initContainers": [{"name": "i", "image": "i:1"}],
    "gateway.httpRoute.parentRefs": [{"name": "g"}],
    "networkPolicy.dnsPorts": [53],
    "gateway.extraEnv": [{"name": "N", "value": "v"}],
    "gateway.affinity": {"nodeAffinity": {}},
    "engineDefaults.gpus": 2,
    "engineDefaults.gpuResource": "amd.com/gpu",
    "engineDefaults.settings": {"max_model_len": 2048},
    "engineDefaults.tokenizerFolder": "chat=/elsewhere",
    "engineDefaults.autoscaling.minReplicas": {
        "engineDefaults": {"autoscaling": {"minReplicas": 2, "maxReplicas": 3, "signals": SIGNALS}}
    },
    "engineDefaults.autoscaling.maxReplicas": {
        "engineDefaults": {"autoscaling": {"maxReplicas": 3, "signals": SIGNALS}}
    },
    "registry.accessModes": ["ReadOnlyMany"],
    "registry.trustedKeys": {"other": PUBLIC_KEY},
    "registry.trustedKeysConfigMap": {"registry": {"trustedKeys": {"ci": None}, "trustedKeysConfigMap": "k"}},
    "ledger.url": "postgresql://h/e",
    "ledger.readUrl": "postgresql://replica/d",
    "limits.url": "redis://i",
    "engineKey.key": "fedcba9876543210",
    "telemetry.otlpEndpoint": "http://otel:4318",
    "serviceMonitor.interval": "3s",
    "networkPolicy.clients": PEER,
    "networkPolicy.prometheus": PEER,
    "networkPolicy.dns": PEER,
    "networkPolicy.kubernetesPorts": [1],
    "networkPolicy.gatewayEgress": [{"to": PEER}],
    "networkPolicy.engineEgress": [{"to": PEER}],
    "engines[].model": {"engines": [{"name": "a", "model": "chat@2"}]},
    **{
        f"{section}.existingSecret": {section: {value: "", "existingSecret": "s"}}
        for section, value in (("marks", "keyring"), ("receipts", "keys"), ("ledger", "url"), ("limits", "url"))
    },
    "engineKey.existingSecret": {"engineKey": {"key": "", "existingSecret": "s"}},
    "huggingFace.existingSecret": {"huggingFace": {"token": "", "existingSecret": "s"}},
}
SETTINGS = {
    "config.prices": {"m": {}},
    "config.gateway.drain_delay_s": 5,
    "config.gateway.tls": {"certificate": "/c", "key": "/k"},
    "config.gateway.engine_urls": ["http://e:1"],
    "config.gateway.engine_dns": ["http://e:1"],
    "config.identity.jwt": {"issuer": "https://i"},
    "config.ledger.anchors": {"url": "https://l"},
    "config.guard.classifiers": {"perspective": {"api_key": "k"}},
}
"""Settings that the chart reads itself."""
ELSEWHERE = {"config.database", "config.identity.limits_url", "config.gateway.engine_api_key"}
"""Settings that the chart refuses in `config`."""


def nested(path: str, value: object) -> dict:
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def merged(values: dict, changes: dict) -> dict:
    """The values with the changes over them; None takes one out."""
    result = copy.deepcopy(values)
    for key, value in changes.items():
        if value is None:
            del result[key]
            continue
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def schema_of(path: str) -> dict:
    schema = SCHEMA
    for name in path.split("."):
        schema = TABLE["resolve"](schema["properties"][name], SCHEMA["$defs"])
    return schema


def another(path: str) -> object:
    """A value that the schema takes and that is not the default."""
    schema, default = schema_of(path), DEFAULTS
    for name in path.split("."):
        default = default[name]
    if "enum" in schema:
        return next(each for each in schema["enum"] if each != default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1
    if isinstance(default, float):
        return 0.98
    if isinstance(default, list):
        return ["--another=1"]
    if isinstance(default, dict):
        return {"another": "1"}
    return "3Gi" if "Gi" in schema.get("pattern", "") else "another"


def change(path: str) -> dict:
    """Values that differ from BASE at `path`."""
    alike = path.replace("engineDefaults", "gateway", 1)
    value = CHANGED.get(path, CHANGED.get(alike)) if path in CHANGED or alike in CHANGED else another(path)
    whole = isinstance(value, dict) and path.split("[")[0].split(".")[0] in value
    return value if whole else nested(path, value)


def setting_paths() -> list[str]:
    """`config.SECTION.NAME` of every setting that `config` may hold; one where all of a section restart the same."""
    paths = []
    for section, field in Settings.model_fields.items():
        inner = field.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            paths.append(f"config.{section}")
            continue
        names = [f"config.{section}.{name}" for name in inner.model_fields]
        effects = {restarted_by(name) for name in names}
        paths += names[:1] if len(effects) == 1 and effects != {"nothing"} else names
    return [each for each in paths if not any(f"{each}.".startswith(f"{other}.") for other in ELSEWHERE)]


def changes() -> dict[str, dict]:
    """Path to values in which it is another than in BASE, for every value and setting."""
    values = [path for path, _ in TABLE["described"](SCHEMA, SCHEMA["$defs"]) if path not in ("config", "engines")]
    found = {path: change(path) for path in values if restarted_by(path) in EFFECTS}
    # What else a setting may be is not the chart's to check.
    return found | {path: nested(path, SETTINGS.get(path, "another")) for path in setting_paths()}


EFFECTS = {
    "nothing": (False, False),
    "the gateway": (True, False),
    "the pool's engines": (False, True),
    "gateway and engines": (True, True),
}
"""Whether the gateway's pods and the engines' change."""


def pods_of(chart, values: dict) -> list[dict]:
    """The pod templates of the gateway and of the pool."""
    shown = [f"--show-only=templates/{name}-deployment.yaml" for name in ("gateway", "engine")]
    objects = chart.render(values, *shown)
    return [objects.pod(name) for name in ("signet-gateway", "signet-engine-a")]


@pytest.fixture(scope="module")
def before(chart):
    return pods_of(chart, BASE)


def differ(before: list[dict], after: list[dict]) -> tuple[bool, ...]:
    return tuple(one != other for one, other in zip(before, after, strict=True))


def test_values_that_restart_nothing_restart_nothing(chart, before):
    """All at once: each by itself restarts no more."""
    values: dict = {}
    for path, each in changes().items():
        if restarted_by(path) == "nothing":
            values = merged(values, each)

    assert {"prices", "guard", "gateway"} <= set(values["config"])
    assert differ(before, pods_of(chart, merged(BASE, values))) == (False, False)


def is_of_a_pool(path: str) -> bool:
    return path.startswith("engineDefaults.")


@pytest.mark.parametrize(
    "path", [path for path in changes() if restarted_by(path) != "nothing" and not is_of_a_pool(path)]
)
def test_value_restarts_what_the_table_says(chart, before, path):
    if path == "gateway.persistence.existingClaim":  # of use without another database only
        own = merged(BASE, {"ledger": None})
        assert differ(pods_of(chart, own), pods_of(chart, merged(own, changes()[path]))) == (True, False)
        return

    assert differ(before, pods_of(chart, merged(BASE, changes()[path]))) == EFFECTS[restarted_by(path)]


def test_values_of_a_pool_restart_that_pool_alone(chart, before):
    """One pool for each value, all in one rendering."""
    paths = [path for path in changes() if restarted_by(path) != "nothing" and is_of_a_pool(path)]
    [pool] = BASE["engines"]
    own = {f"p{number}": changes()[path]["engineDefaults"] for number, path in enumerate(paths)}
    engines = [pool, *({**pool, "name": name, **each} for name, each in own.items())]
    objects = chart.render({**BASE, "engines": engines})

    def seen(name: str) -> tuple[str, str]:
        config_map = objects.config_map(f"signet-engine-{name}")["metadata"]["name"]
        pod = yaml.safe_dump(objects.pod(f"signet-engine-{name}")).replace(config_map, "").replace(f": {name}\n", "")
        return pod, objects.settings_file(f"signet-engine-{name}")

    unchanged = [path for name, path in zip(own, paths, strict=True) if seen(name) == seen("a")]
    assert len(paths) > 20
    assert unchanged == []
    assert objects.pod("signet-gateway") == before[0]


def test_chart_knows_what_a_gateway_takes_on_by_itself(tmp_path: Path):
    template = (CHART / "templates" / "_programs.tpl").read_text()
    block = template.partition('define "signet.reloadable" -}}')[2].partition("{{- end }}")[0]
    app = build(load_settings(overrides={"home": tmp_path}, environment={}), reload=list)
    app.pipeline.understand.identity.close()
    of_the_program = {name for part in parts_of(app, MagicMock()) for name in part.settings}

    assert set(yaml.safe_load(block)) == of_the_program


def test_setting_that_a_gateway_takes_on_changes_its_config_map_in_place(chart):
    before, after = chart.render({}), chart.render({"config": {"prices": {"m": {"prompt_per_million": "1"}}}})
    [old], [new] = (
        [each for each in objects.of("ConfigMap") if "-gateway" in each["metadata"]["name"]]
        for objects in (before, after)
    )

    assert old["metadata"] == new["metadata"]
    assert old["data"] != new["data"]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"config": {"telemetry": {"log_format": "text"}}}, id="setting"),
        pytest.param(
            {"gateway": {"image": {"tag": "9.9.9"}}, "engineDefaults": {"image": {"tag": "9.9.9"}}}, id="image"
        ),
        pytest.param({"user": 10002}, id="pod"),
    ],
)
def test_new_pods_have_a_config_map_of_their_own(chart, values):
    names = [{each["metadata"]["name"] for each in chart.render(given).of("ConfigMap")} for given in ({}, values)]

    assert not names[0] & names[1]


def test_pods_of_the_revision_before_keep_their_config_map_until_none_is_wanted(chart, cluster):
    first = chart.render({})
    old = first.config_map("signet-gateway")
    cluster.learn(first)
    replica_set = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "signet-gateway-1", "labels": first.pod("signet-gateway")["metadata"]["labels"]},
        "spec": {"replicas": 1, "template": first.pod("signet-gateway")},
    }
    cluster.learn(type(first)([replica_set]))
    owned = {"meta.helm.sh/release-name": "signet", "meta.helm.sh/release-namespace": "models"}
    cluster.objects["configmaps", old["metadata"]["name"]] = merged(old, {"metadata": {"annotations": owned}})
    cluster.objects["replicasets", "signet-gateway-1"] = replica_set

    def upgraded():
        values = {"gateway": {"workers": 2}, "engineKey": {"key": "0123456789abcdef"}}
        return chart.render(values, "--dry-run=server", "--disable-openapi-validation", *cluster.arguments)

    kept = upgraded()
    assert kept.one("ConfigMap", old["metadata"]["name"])["data"] == old["data"]
    assert kept.config_map("signet-gateway")["metadata"]["name"] != old["metadata"]["name"]

    replica_set["spec"]["replicas"] = 0
    assert len(upgraded().of("ConfigMap")) == 2
