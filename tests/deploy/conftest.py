"""The chart, rendered by the real helm over many sets of values."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "signet"
NAMESPACE = "models"

Values = dict[str, Any]
Object = dict[str, Any]

PUBLIC_KEY = """\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""

# Name of each case to its values. The examples are added below, so that none goes stale.
CASES: dict[str, Values] = {
    "defaults": {},
    "autoscaling-off": {
        "gateway": {"autoscaling": {"enabled": False}},
        "engineDefaults": {"autoscaling": {"enabled": False}, "replicas": 3},
    },
    "gpus": {
        "engines": [
            {"name": "one", "model": "chat@1", "gpus": 1, "runtimeClassName": "nvidia"},
            {"name": "eight", "model": "chat@production", "gpus": 8, "gpuResource": "amd.com/gpu"},
            {"name": "split", "model": "chat@2", "gpus": 4, "extraArgs": ["--pipeline-parallel-size=4"]},
        ]
    },
    "existing-secrets": {
        "marks": {"existingSecret": "my-keyring"},
        "receipts": {"existingSecret": "my-receipt-keys"},
        "ledger": {"existingSecret": "my-database"},
        "limits": {"existingSecret": "my-limits"},
        "engineKey": {"existingSecret": "my-engine-key"},
        "huggingFace": {"existingSecret": "my-token"},
        "registry": {"existingClaim": "my-registry", "trustedKeysConfigMap": "my-keys"},
        "serviceAccountName": "my-account",
        "gateway": {"replicas": 4, "autoscaling": {"enabled": False}},
        "engines": [{"name": "chat", "model": "chat@1"}],
    },
    "inline-secrets": {
        "marks": {"keyring": '{"canary": "CANARY-keyring"}'},
        "receipts": {"keys": '{"canary": "CANARY-receipts"}'},
        "ledger": {"url": "postgresql+psycopg://signet:CANARY-password@db:6543/signet", "port": 6543},
        "limits": {"url": "rediss://:CANARY-limits@valkey:6380/0", "port": 6380},
        "engineKey": {"key": "CANARY-engine-key"},
        "huggingFace": {"token": "CANARY-token"},
        "registry": {"trustedKeys": {"ci": PUBLIC_KEY}},
        "gateway": {"autoscaling": {"minReplicas": 2, "maxReplicas": 5}},
        "drift": {"enabled": True},
        "serviceMonitor": {"enabled": True},
        "engines": [{"name": "chat", "model": "chat@1"}],
    },
    "many-pools-by-number": {
        "fullnameOverride": "a-name-of-twenty-eight-chars",
        "engines": [{"name": f"pool-{n:02}-of-several-here", "model": f"m{n}@{n + 1}"} for n in range(5)],
    },
    "endpoint-slices": {
        "gateway": {"discovery": "endpointSlices", "workers": 4},
        "engines": [{"name": "a", "model": "chat@1"}, {"name": "b", "model": "code@1"}],
    },
    "platform-chooses-user": {"user": None},
    "everything-said": {
        "imagePullSecrets": [{"name": "pull"}],
        "config": {"guard": {}, "telemetry": {}},
        "telemetry": {"otlpEndpoint": "https://traces.example.com"},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "networkPolicy": {
            "clients": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
            "gatewayEgress": [{"ports": [{"port": 6379, "protocol": "TCP"}]}],
            "engineEgress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443, "protocol": "TCP"}]}],
        },
        "gateway": {
            "image": {"repository": "r.example.com/g", "digest": "sha256:" + "0" * 64},
            "service": {"type": "LoadBalancer", "port": 80, "annotations": {"a": "b"}},
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "high",
            "podAnnotations": {"note": "yes"},
            "disruptionBudget": {"maxUnavailable": "50%"},
            "topologySpread": "DoNotSchedule",
        },
        "engineDefaults": {
            "extraEnv": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "topologySpread": "Disabled",
            "disruptionBudget": {"enabled": False},
            "autoscaling": {
                "maxReplicas": 4,
                "signals": [
                    {"type": "external", "metric": "signet_gateway_in_flight", "selector": {"a": "b"}, "target": "16"},
                    {"type": "pods", "metric": "vllm_kv_cache_usage_perc", "target": "750m"},
                ],
            },
        },
    },
    "ways-in-and-extras": {
        "labels": {"team": "ml"},
        "config": {"gateway": {"tls": {"certificate": "/c/tls.crt", "key": "/c/tls.key"}}},
        "serviceMonitor": {"enabled": True},
        "gateway": {
            "ingress": {"enabled": True, "host": "llm.example.com", "tlsSecret": "c", "className": "nginx"},
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
        },
        "engineDefaults": {"podLabels": {"mesh": "off"}},
    },
    "no-network-policy": {"networkPolicy": {"enabled": False}},
    "watched": {
        "serviceMonitor": {"enabled": True},
        "monitoring": {"dashboards": {"enabled": True}, "rules": {"enabled": True, "labels": {"release": "p"}}},
    },
} | {
    f"example-{path.stem}": yaml.safe_load(path.read_text()) for path in sorted((CHART / "examples").glob("*.yaml"))
}  # fmt: skip


def import_script(path: Path) -> ModuleType:
    """Import a script that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


class Objects(list[Object]):
    """The objects of one rendering."""

    def of(self, kind: str) -> list[Object]:
        return [document for document in self if document["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        [found] = [document for document in self.of(kind) if document["metadata"]["name"] == name]
        return found

    def pods(self) -> list[Object]:
        """The pod templates of what serves."""
        return [deployment["spec"]["template"] for deployment in self.of("Deployment")]

    def all_pods(self) -> list[Object]:
        """The pod templates, those of Jobs too."""
        return [*self.pods(), *(job["spec"]["template"] for job in self.of("Job"))]

    def pod(self, name: str) -> Object:
        """The pod template of one Deployment."""
        return dict(self.one("Deployment", name)["spec"]["template"])

    def config_map(self, name: str) -> Object:
        """What the pods of one Deployment have in /etc/signet."""
        [volume] = [each for each in self.pod(name)["spec"]["volumes"] if each["name"] == "config"]
        return self.one("ConfigMap", volume["configMap"]["name"])

    def settings_file(self, name: str) -> str:
        """signet.yaml of the pods of one Deployment."""
        return str(self.config_map(name)["data"]["signet.yaml"])


@dataclass(frozen=True)
class Chart:
    """The chart, and the helm that renders it."""

    helm: Path

    def run(self, *arguments: str, values: Values) -> subprocess.CompletedProcess[str]:
        command = [str(self.helm), *arguments, "--values", "-"]
        return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)

    def lint(self, values: Values) -> subprocess.CompletedProcess[str]:
        return self.run("lint", "--strict", str(CHART), values=values)

    def template(self, values: Values, *options: str) -> subprocess.CompletedProcess[str]:
        return self.run("template", "signet", str(CHART), "--namespace", NAMESPACE, *options, values=values)

    def render(self, values: Values, *options: str) -> Objects:
        result = self.template(values, *options)
        assert result.returncode == 0, result.stderr
        return Objects(document for document in yaml.load_all(result.stdout, yaml.CSafeLoader) if document)


@pytest.fixture
def load_script() -> Callable[[str], ModuleType]:
    """Import a script of `deploy/` anew, by its path from the root."""
    return lambda path: import_script(ROOT / path)


@pytest.fixture(scope="session")
def tools() -> dict[str, Path]:
    installed: dict[str, Path] = import_script(ROOT / "deploy" / "tools.py").install(
        ROOT / ".signet" / "cache" / "tools"
    )
    return installed


@pytest.fixture(scope="session")
def chart(tools: dict[str, Path]) -> Chart:
    return Chart(tools["helm"])


class Cluster:
    """As much of a Kubernetes API as `helm template --dry-run=server` asks for: the kinds there are, and objects."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        """By resource and name, as in ("secrets", "signet-engine-key")."""
        self.kinds: dict[str, set[str]] = {"v1": {"Secret"}}
        """By API version."""
        kept = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                status, body = kept.answer(path)
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.arguments = ["--kube-apiserver", f"http://127.0.0.1:{self.server.server_port}"]

    def learn(self, objects: Objects) -> None:
        """Have the kinds of these objects."""
        for document in objects:
            self.kinds.setdefault(document["apiVersion"], set()).add(document["kind"])

    def answer(self, path: str) -> tuple[int, Object]:
        """The status and the body of a GET."""
        if path == "/version":
            return 200, {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
        if path == "/api":
            return 200, {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            versions = [{"groupVersion": kind, "version": kind.partition("/")[2]} for kind in self.kinds if "/" in kind]
            groups = [
                {"name": version["groupVersion"].partition("/")[0], "versions": [version], "preferredVersion": version}
                for version in versions
            ]
            return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        version = path.removeprefix("/apis/").removeprefix("/api/")
        if version in self.kinds:
            resources = [
                {"name": f"{kind.lower()}s", "singularName": kind.lower(), "namespaced": True, "kind": kind}
                | {"verbs": ["get"]}
                for kind in self.kinds[version]
            ]
            return 200, {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        _, _, rest = path.partition(f"/namespaces/{NAMESPACE}/")
        resource, _, name = rest.partition("/")
        if resource and not name:
            items = [each for (kind, _), each in self.objects.items() if kind == resource]
            return 200, {"kind": "List", "apiVersion": "v1", "items": items}
        if (resource, name) in self.objects:
            return 200, self.objects[resource, name]
        return 404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture(scope="session", params=list(CASES))
def values(request: pytest.FixtureRequest) -> Values:
    """Each case's values in turn."""
    return CASES[request.param]


@pytest.fixture(scope="session")
def objects(chart: Chart, values: Values) -> Objects:
    """Each case's objects in turn."""
    return chart.render(values)
