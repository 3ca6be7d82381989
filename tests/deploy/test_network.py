"""Who reaches whom, asked of the NetworkPolicies as a cluster would."""

from dataclasses import dataclass, field

import pytest

GATEWAY = {
    "app.kubernetes.io/name": "signet",
    "app.kubernetes.io/instance": "signet",
    "app.kubernetes.io/component": "gateway",
}
ENGINE = GATEWAY | {"app.kubernetes.io/component": "engine", "signet/pool": "default"}
NAMED_PORTS = {"gateway": {"http": 8000}, "engine": {"http": 8100}}


@dataclass(frozen=True)
class Peer:
    """A pod, or an address outside of the cluster."""

    labels: dict = field(default_factory=dict)
    namespace: str = "models"
    address: str | None = None


def allowed(policy: dict, direction: str, peer: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether a policy lets its pods talk with `peer`; nothing is allowed that no rule names."""
    other = {"ingress": "from", "egress": "to"}[direction]
    named = NAMED_PORTS[policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]]
    return any(
        (other not in rule or any(is_peer(entry, peer) for entry in rule[other]))
        and (
            "ports" not in rule
            or any(
                named.get(entry["port"], entry["port"]) == port and entry["protocol"] == protocol
                for entry in rule["ports"]
            )
        )
        for rule in policy["spec"][direction]
    )


def is_peer(rule: dict, peer: Peer) -> bool:
    if "ipBlock" in rule:
        return peer.address is not None
    if peer.address is not None:
        return False
    in_namespace = peer.namespace == "models"
    if "namespaceSelector" in rule:
        wanted = rule["namespaceSelector"].get("matchLabels", {})
        in_namespace = wanted.items() <= {"kubernetes.io/metadata.name": peer.namespace}.items()
    return in_namespace and rule.get("podSelector", {}).get("matchLabels", {}).items() <= peer.labels.items()


@pytest.fixture(scope="module")
def policies(chart):
    objects = chart.render({})
    return {name: objects.one("NetworkPolicy", f"signet-{name}") for name in ("gateway", "engine")}


def test_policies_cover_both_directions_of_every_pod(objects):
    policies = objects.of("NetworkPolicy")
    for policy in policies:
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    for pod in objects.pods():
        labels = pod["metadata"]["labels"]
        covering = [
            policy for policy in policies if policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        ]
        assert len(covering) == (1 if policies else 0)


@pytest.mark.parametrize(
    ("peer", "port", "expected"),
    [
        pytest.param(Peer(GATEWAY), 8100, True, id="gateway"),
        pytest.param(Peer({"app": "prometheus"}, "monitoring"), 8100, True, id="prometheus"),
        pytest.param(Peer(GATEWAY), 22, False, id="gateway-other-port"),
        pytest.param(Peer({"app": "curl"}), 8100, False, id="neighbour"),
        pytest.param(Peer(ENGINE), 8100, False, id="engine"),
        pytest.param(Peer(GATEWAY, "elsewhere"), 8100, False, id="same-labels-elsewhere"),
        pytest.param(Peer(GATEWAY | {"app.kubernetes.io/instance": "b"}), 8100, False, id="other-release"),
        pytest.param(Peer(address="192.0.2.1"), 8100, False, id="internet"),
    ],
)
def test_who_reaches_an_engine(policies, peer, port, expected):
    assert allowed(policies["engine"], "ingress", peer, port) == expected


@pytest.mark.parametrize(
    ("peer", "port", "protocol", "expected"),
    [
        pytest.param(Peer({"k8s-app": "kube-dns"}, "kube-system"), 53, "UDP", True, id="dns"),
        pytest.param(Peer({"k8s-app": "kube-dns"}, "kube-system"), 53, "TCP", True, id="dns-over-tcp"),
        pytest.param(Peer({"component": "apiserver"}, "kube-system"), 443, "TCP", False, id="api-server"),
        pytest.param(Peer(address="192.0.2.1"), 443, "TCP", False, id="internet"),
        pytest.param(Peer(GATEWAY), 8000, "TCP", False, id="gateway"),
    ],
)
def test_where_an_engine_may_go(policies, peer, port, protocol, expected):
    assert allowed(policies["engine"], "egress", peer, port, protocol) == expected


@pytest.mark.parametrize(
    ("peer", "port", "expected"),
    [
        pytest.param(Peer(ENGINE), 8100, True, id="engine"),
        pytest.param(Peer(ENGINE), 22, False, id="engine-other-port"),
        pytest.param(Peer({"app": "db"}), 8100, False, id="neighbour"),
        pytest.param(Peer(address="192.0.2.1"), 443, False, id="internet"),
        pytest.param(Peer(address="192.0.2.1"), 5432, False, id="database"),
    ],
)
def test_where_the_gateway_may_go(policies, peer, port, expected):
    assert allowed(policies["gateway"], "egress", peer, port) == expected


@pytest.mark.parametrize(("namespace", "port"), [("kube-system", 53), ("openshift-dns", 5353)])
@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
def test_pods_resolve_names(policies, namespace, port, protocol):
    for policy in policies.values():
        assert allowed(policy, "egress", Peer(namespace=namespace), port, protocol)


def test_name_servers_and_prometheus_are_where_the_values_say(chart):
    somewhere = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}}}]
    values = {"networkPolicy": {"dns": somewhere, "dnsPorts": [1053], "prometheus": somewhere}}
    engine = chart.render(values).one("NetworkPolicy", "signet-engine")
    elsewhere = Peer(namespace="elsewhere")

    assert allowed(engine, "egress", elsewhere, 1053, "UDP")
    assert not allowed(engine, "egress", Peer(namespace="kube-system"), 53, "UDP")
    assert allowed(engine, "ingress", elsewhere, 8100)
    assert not allowed(engine, "ingress", Peer(namespace="monitoring"), 8100)


def test_everyone_reaches_the_gateway_unless_clients_are_named(chart, policies):
    stranger = Peer({"app": "web"}, "shop")
    prometheus = Peer({}, "monitoring")
    clients = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}]
    named = chart.render({"networkPolicy": {"clients": clients}}).one("NetworkPolicy", "signet-gateway")

    assert allowed(policies["gateway"], "ingress", stranger, 8000)
    assert not allowed(policies["gateway"], "ingress", stranger, 9999)
    assert allowed(named, "ingress", stranger, 8000)
    assert allowed(named, "ingress", prometheus, 8000)
    assert not allowed(named, "ingress", Peer({}, "elsewhere"), 8000)


@pytest.mark.parametrize(
    ("values", "gateway_ports", "engine_ports"),
    [
        pytest.param({"ledger": {"existingSecret": "x"}}, {5432}, set(), id="postgresql"),
        pytest.param({"ledger": {"existingSecret": "x", "port": 6432}}, {6432}, set(), id="postgresql-other-port"),
        pytest.param({"ledger": {"url": "sqlite:////data/a.db"}}, set(), set(), id="sqlite"),
        pytest.param({"limits": {"existingSecret": "x"}}, {6379}, set(), id="limits"),
        pytest.param({"limits": {"url": "redis://h:7000", "port": 7000}}, {7000}, set(), id="limits-other-port"),
        pytest.param({"gateway": {"discovery": "endpointSlices"}}, {443, 6443}, set(), id="kubernetes"),
        pytest.param({"telemetry": {"otlpEndpoint": "http://otel:4318"}}, {4318}, {4318}, id="traces"),
        pytest.param({"telemetry": {"otlpEndpoint": "https://otel.example.com/v1"}}, {443}, {443}, id="traces-https"),
        pytest.param({"gateway": {"externalEngines": ["http://10.0.0.1:9000"]}}, {9000}, set(), id="external-engine"),
        pytest.param(
            {"gateway": {"externalEngines": ["http://e.example.com"]}}, {80}, set(), id="external-engine-http"
        ),
        pytest.param(
            {"config": {"gateway": {"engine_urls": ["http://10.0.0.1:9000"]}}},
            {9000},
            set(),
            id="engine-of-the-settings",
        ),
        pytest.param(
            {"config": {"identity": {"jwt": {"issuer": "https://login.example.com", "audience": ["a"]}}}},
            {443},
            set(),
            id="token-issuer",
        ),
        pytest.param(
            {"config": {"identity": {"jwt": {"issuer": "https://login", "jwks": "http://keys:7000/jwks"}}}},
            {7000},
            set(),
            id="token-keys-elsewhere",
        ),
        pytest.param(
            {"config": {"identity": {"jwt": {"issuer": "https://login:6443", "jwks": "/etc/keys.json"}}}},
            {6443},
            set(),
            id="token-keys-in-a-file",
        ),
        pytest.param({"config": {"ledger": {"anchors": {"url": "https://log:9000/a"}}}}, {9000}, set(), id="anchors"),
        pytest.param(
            {"config": {"telemetry": {"otlp_endpoint": "http://otel:4318"}}},
            {4318},
            {4318},
            id="traces-of-the-settings",
        ),
        pytest.param(
            {"config": {"guard": {"classifiers": {"perspective": {"timeout_s": 1}}}}}, {443}, set(), id="perspective"
        ),
    ],
)
def test_what_is_configured_is_reached(chart, values, gateway_ports, engine_ports):
    objects = chart.render(values)
    outside = Peer(address="192.0.2.1")

    for name, expected in (("gateway", gateway_ports), ("engine", engine_ports)):
        policy = objects.one("NetworkPolicy", f"signet-{name}")
        candidates = {80, 443, 4318, 5432, 6379, 6432, 6443, 7000, 9000}
        assert {port for port in candidates if allowed(policy, "egress", outside, port)} == expected
