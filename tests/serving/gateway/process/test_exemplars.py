"""From a latency to its trace: exemplars of a real gateway, scraped by a real Prometheus."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from loadtests.tools.prometheus import Target, operator_labels, running_prometheus
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import ScriptedEngine, stream

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
TRACE, UNSAMPLED = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"
HISTOGRAMS = ("queue", "ttft", "inter_token", "request")


@pytest.fixture(scope="module")
def collector() -> Iterator[str]:
    """Takes every span."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def traced_engine() -> Iterator[ScriptedEngine]:
    scripted = ScriptedEngine()
    scripted.script = lambda _: [part for chunk in stream(["a", " b", " c"]) for part in (chunk, 0.02)]
    yield scripted
    scripted.stop()


@pytest.fixture(scope="module", params=[1, 2], ids=["one-process", "two-workers"])
def traced(
    request: pytest.FixtureRequest,
    traced_engine: ScriptedEngine,
    collector: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningGateway]:
    settings = {"SIGNET_TELEMETRY__OTLP_ENDPOINT": collector, "SIGNET_GATEWAY__WORKERS": str(request.param)}
    running = start_gateway(
        tmp_path_factory.mktemp("traced"), traced_engine.url, as_program=request.param > 1, **settings
    )
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 20, "the gateway sees its engine", running.process)
    yield running
    stop_gateway(running)


def ask(gateway: RunningGateway, trace: str, flags: str = "01") -> None:
    body = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"authorization": f"Bearer {gateway.key}", "traceparent": f"00-{trace}-00f067aa0ba902b7-{flags}"}
    assert httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers).status_code == 200


def exposed(gateway: RunningGateway) -> dict[str, set[str]]:
    """Trace ids by the histogram that names them."""
    response = httpx.get(f"{gateway.url}/metrics", headers={"accept": OPENMETRICS})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    return {
        family.name: {sample.exemplar.labels["trace_id"] for sample in family.samples if sample.exemplar is not None}
        for family in text_string_to_metric_families(response.text)
    }


def test_each_latency_leads_to_its_trace(traced: RunningGateway, traced_engine: ScriptedEngine) -> None:
    ask(traced, TRACE)
    ask(traced, UNSAMPLED, flags="00")

    def shown() -> dict[str, set[str]]:
        exemplars = exposed(traced)
        return {name: exemplars[f"signet_gateway_{name}_seconds"] for name in HISTOGRAMS}

    wanted = {name: {TRACE} for name in HISTOGRAMS}
    # On a busy machine a worker may not answer its sibling in time.
    wait_until(lambda: shown() == wanted, 20, "each histogram names the trace that is kept, and no other")
    # The engine's spans belong to the same trace.
    assert {request.headers["traceparent"].split("-")[1] for request in traced_engine.seen[-2:]} == {TRACE, UNSAMPLED}


def test_who_does_not_ask_for_openmetrics_gets_the_text_without_exemplars(traced: RunningGateway) -> None:
    ask(traced, TRACE)

    response = httpx.get(f"{traced.url}/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert TRACE not in response.text
    assert "# EOF" not in response.text


def test_without_tracing_there_are_none(gateway: RunningGateway) -> None:
    ask(gateway, TRACE)

    assert {trace for traces in exposed(gateway).values() for trace in traces} == set()


@pytest.mark.services
def test_a_real_prometheus_keeps_them(traced: RunningGateway, tmp_path: Path) -> None:
    labels = operator_labels("signet", "signet-gateway", "signet-gateway-0")
    started = time.time()
    with running_prometheus(tmp_path, [Target(urlsplit(traced.url).netloc, labels)]) as prometheus:

        def kept() -> dict[str, list[str]]:
            ask(traced, TRACE)
            return prometheus.exemplars('{__name__=~"signet_gateway_.+_bucket"}', started, time.time() + 1)

        wanted = {f"signet_gateway_{name}_seconds_bucket" for name in HISTOGRAMS}
        wait_until(lambda: kept().keys() >= wanted, 30, "Prometheus has an exemplar of each histogram")

        assert {trace for name, traces in kept().items() if name in wanted for trace in traces} == {TRACE}
