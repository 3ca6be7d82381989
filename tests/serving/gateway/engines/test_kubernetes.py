"""The real client against a small server that lists and watches as the Kubernetes API does."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from lightkube.config.kubeconfig import KubeConfig
from lightkube.config.models import Cluster, User

from serving.gateway.engines.address import Address
from serving.gateway.engines.discovery.slices import addresses_in
from serving.gateway.settings.engines import EngineServiceSettings
from tests.serving.gateway.engines.pools import eventually, pool_settings, running_pool

END = object()


def endpoint(address: str, pod: str, **conditions: bool) -> dict[str, Any]:
    target = {"kind": "Pod", "name": pod, "namespace": "models"}
    return {"addresses": [address], "conditions": conditions, "targetRef": target}


def endpoint_slice(name: str, *endpoints: dict[str, Any], family: str = "IPv4") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "models", "resourceVersion": "7"},
        "addressType": family,
        "ports": [{"name": "metrics", "port": 9000}, {"name": "http", "port": 8100}],
        "endpoints": list(endpoints),
    }


class ApiServer:
    """`/apis/discovery.k8s.io/v1/namespaces/models/endpointslices`: a list, and streams of watch events."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.status = 200
        self.events: queue.Queue[object] = queue.Queue()
        self.asked: list[dict[str, str]] = []
        self.tokens: set[str | None] = set()
        self.left = 0
        """Watches whose client went away."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                assert parts.path == "/apis/discovery.k8s.io/v1/namespaces/models/endpointslices"
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                outer.asked.append(query)
                outer.tokens.add(self.headers["authorization"])
                if outer.status != 200:
                    self._whole({"kind": "Status", "message": "secret detail"})
                elif query.get("watch") in ("true", "True"):
                    self._watch()
                else:
                    self._whole({"metadata": {"resourceVersion": "7"}, "items": outer.items})

            def _whole(self, value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(outer.status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _watch(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                try:
                    while (event := outer.events.get()) is not END:
                        data = json.dumps(event).encode() + b"\n"
                        # Events are cut anywhere by the network.
                        for part in (data[:17], data[17:]):
                            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                            self.wfile.flush()
                    self.wfile.write(b"0\r\n\r\n")
                except OSError:
                    outer.left += 1
                    self.close_connection = True

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        for _ in range(10):
            self.events.put(END)
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self, folder: Path) -> Path:
        file = folder / "kubeconfig"
        named = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": "the-token"}}],
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u", "namespace": "models"}}],
        }
        file.write_text(yaml.safe_dump(named))
        return file


@pytest.fixture
def api() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.stop()


def names(pool: Any) -> list[tuple[str, bool]]:
    return [(engine.name, engine.draining) for engine in pool.engines]


async def test_engines_follow_the_endpoints_of_a_service(api: ApiServer, tmp_path: Path) -> None:
    api.items = [endpoint_slice("s1", endpoint("127.0.0.1", "a", ready=True))]
    settings = pool_settings(engine_services=["vllm:http"], kubeconfig=api.kubeconfig(tmp_path))
    async with running_pool(settings) as (pool, log):
        label = "kubernetes:/vllm:http"
        await eventually(lambda: names(pool) == [("a.models:8100", False)], "the listed endpoint is there", 10)
        engine = pool.engines[0]
        assert log.sources == {label: True}
        assert api.tokens == {"Bearer the-token"}
        assert api.asked[0] == {"labelSelector": "kubernetes.io/service-name=vllm"}
        await eventually(lambda: len(api.asked) > 1, "the watch begins")
        assert api.asked[1]["resourceVersion"] == "7"

        api.events.put({"type": "ADDED", "object": endpoint_slice("s2", endpoint("127.0.0.2", "b", ready=True))})
        await eventually(lambda: len(pool.engines) == 2, "an added slice brings its engines")
        leaving = endpoint("127.0.0.1", "a", ready=False, serving=True, terminating=True)
        api.events.put({"type": "MODIFIED", "object": endpoint_slice("s1", leaving)})
        await eventually(lambda: names(pool) == [("a.models:8100", True), ("b.models:8100", False)], "a drains")
        assert pool.engines[0] is engine
        api.events.put({"type": "DELETED", "object": endpoint_slice("s1")})
        await eventually(lambda: names(pool) == [("b.models:8100", False)], "a leaves")


async def test_a_failing_api_server_leaves_the_engines_and_is_asked_again(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("serving.gateway.engines.discovery.kubernetes.FIRST_RETRY_S", 0.02)
    api.items = [endpoint_slice("s1", endpoint("127.0.0.1", "a", ready=True))]
    settings = pool_settings(engine_services=["models/vllm:http"], kubeconfig=api.kubeconfig(tmp_path))
    async with running_pool(settings) as (pool, log):
        await eventually(lambda: len(pool.engines) == 1, "the engine is found", 10)
        await eventually(lambda: len(api.asked) > 1, "the watch begins")
        api.status = 403
        api.events.put(END)
        await eventually(lambda: list(log.sources.values()) == [False], "the failure is told")
        assert len(pool.engines) == 1
        reasons = [getattr(record, "reason", "") for record in caplog.records]
        assert any("may not list and watch" in reason for reason in reasons)
        assert not any("secret detail" in reason for reason in reasons)

        api.items.append(endpoint_slice("s2", endpoint("127.0.0.2", "b", ready=True)))
        api.status = 200
        await eventually(lambda: len(pool.engines) == 2 and all(log.sources.values()), "it is listed anew")


async def test_an_outdated_watch_lists_again(api: ApiServer, tmp_path: Path) -> None:
    settings = pool_settings(engine_services=["vllm:http"], kubeconfig=api.kubeconfig(tmp_path))
    async with running_pool(settings) as (pool, log):
        await eventually(lambda: len(api.asked) > 1, "the watch begins", 10)
        assert pool.engines == []
        api.items = [endpoint_slice("s1", endpoint("127.0.0.1", "a", ready=True))]
        api.events.put({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}})
        await eventually(lambda: len(pool.engines) == 1, "the list is read again")
        assert all(log.sources.values())


async def test_removing_the_source_ends_its_watch_although_it_is_silent(api: ApiServer, tmp_path: Path) -> None:
    settings = pool_settings(engine_services=["vllm:http"], kubeconfig=api.kubeconfig(tmp_path))
    async with running_pool(settings) as (pool, log):
        await eventually(lambda: len(api.asked) > 1, "the watch begins", 10)
        pool.apply(pool_settings())

        def left() -> bool:
            # The server notices at the next event that nobody reads.
            api.events.put({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "8"}}})
            return api.left == 1

        await eventually(left, "the connection is closed")
        assert log.sources == {}


async def test_a_pods_own_credentials_come_first(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files that a pod finds, and its token renewed by the kubelet."""
    (tmp_path / "token").write_text("first")
    (tmp_path / "namespace").write_text("models")

    def from_env() -> KubeConfig:
        user = User(token_file=str(tmp_path / "token"))
        return KubeConfig.from_one(cluster=Cluster(server=api.url), user=user, namespace="models")

    monkeypatch.setattr(KubeConfig, "from_env", from_env)
    async with running_pool(pool_settings(engine_services=["vllm:http"])):
        await eventually(lambda: len(api.asked) > 1, "the watch begins", 10)
        (tmp_path / "token").write_text("second")
        api.status = 401
        api.events.put(END)
        await eventually(lambda: "Bearer second" in api.tokens, "the renewed token is read")


def read(slices: Sequence[dict[str, Any]], port: int | str | None = "http") -> list[Address]:
    return addresses_in(slices, port=port, scheme="http", server_name=None)


def test_conditions_decide_who_takes_requests() -> None:
    found = read(
        [
            endpoint_slice(
                "s",
                endpoint("10.0.0.1", "unsaid"),
                endpoint("10.0.0.2", "ready", ready=True, serving=True, terminating=False),
                endpoint("10.0.0.3", "starting", ready=False, serving=False, terminating=False),
                endpoint("10.0.0.4", "leaving", ready=False, serving=True, terminating=True),
            )
        ]
    )
    assert [(address.name, address.draining) for address in found] == [
        ("leaving.models:8100", True),
        ("ready.models:8100", False),
        ("unsaid.models:8100", False),
    ]


def test_a_pod_in_several_slices_is_one_engine() -> None:
    found = read(
        [
            endpoint_slice("six", endpoint("fd00::1", "a", ready=True), family="IPv6"),
            endpoint_slice("four", endpoint("10.0.0.1", "a", ready=True)),
            endpoint_slice("four-rebuilt", endpoint("10.0.0.1", "a", ready=True)),
        ]
    )
    assert [address.url for address in found] == ["http://10.0.0.1:8100"]


def test_ports_by_name_by_number_and_by_default() -> None:
    six = endpoint_slice("six", {"addresses": ["fd00::1"], "conditions": {}}, family="IPv6")
    assert [address.url for address in read([six])] == ["http://[fd00::1]:8100"]
    assert [address.name for address in read([six], None)] == ["[fd00::1]:9000"]
    assert [address.url for address in read([six], 7)] == ["http://[fd00::1]:7"]
    assert read([six], "no-such") == []


def test_a_service_may_be_given_as_text() -> None:
    assert EngineServiceSettings.model_validate("models/vllm:8100") == EngineServiceSettings(
        service="vllm", namespace="models", port=8100
    )
    assert EngineServiceSettings.model_validate("vllm").port is None
    for wrong in ("a b", "", {"namespace": "models"}, {"service": "a", "label_selector": "b"}):
        with pytest.raises(ValueError, match=r"name|either"):
            EngineServiceSettings.model_validate(wrong)
