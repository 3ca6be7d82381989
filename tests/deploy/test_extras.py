"""What the chart does not think of: labels, volumes, containers and objects of the user's own; ways in from outside."""

import pytest

SEVERAL = {
    "labels": {"team": "ml", "app.kubernetes.io/name": "another", "signet/pool": "another"},
    "extraObjects": [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "{{ .Release.Name }}-more", "namespace": "models"},
            "data": {"version": "{{ .Chart.AppVersion }}"},
        }
    ],
    "gateway": {
        "podLabels": {"mesh": "on", "app.kubernetes.io/component": "another"},
        "extraVolumes": [{"name": "certificates", "secret": {"secretName": "s"}}],
        "extraVolumeMounts": [{"name": "certificates", "mountPath": "/certificates", "readOnly": True}],
        "initContainers": [
            {"name": "wait", "image": "busybox:1.37.0", "command": ["true"]},
            {"name": "own", "image": "busybox:1.37.0", "securityContext": {"readOnlyRootFilesystem": False}},
        ],
    },
}


@pytest.fixture(scope="module")
def objects(chart):
    return chart.render(SEVERAL)


def test_labels_are_on_every_object_and_pod_and_change_no_selector(chart, objects):
    plain = chart.render({})

    for each in [*objects, *objects.pods()]:
        if not each["metadata"].get("name", "").endswith("-more"):
            assert each["metadata"]["labels"]["team"] == "ml"
            assert each["metadata"]["labels"]["app.kubernetes.io/name"] == "signet"
    for each in plain.of("Deployment"):
        name = each["metadata"]["name"]
        selector = objects.one("Deployment", name)["spec"]["selector"]
        assert selector == each["spec"]["selector"]
        assert selector["matchLabels"].items() <= objects.pod(name)["metadata"]["labels"].items()
    assert objects.pod("signet-gateway")["metadata"]["labels"]["mesh"] == "on"
    assert "mesh" not in objects.pod("signet-engine-default")["metadata"]["labels"]


def test_volumes_and_containers_are_added(objects):
    spec = objects.pod("signet-gateway")["spec"]
    [container] = spec["containers"]

    assert {"name": "certificates", "secret": {"secretName": "s"}} in spec["volumes"]
    assert "/certificates" in [each["mountPath"] for each in container["volumeMounts"]]
    wait, own = spec["initContainers"]
    assert wait["securityContext"] == container["securityContext"]
    assert own["securityContext"] == {**container["securityContext"], "readOnlyRootFilesystem": False}


def test_further_objects_are_rendered(objects):
    assert objects.one("ConfigMap", "signet-more")["data"] == {"version": "0.1.0"}


def test_an_ingress_leads_to_the_gateway(chart):
    ingress = {"enabled": True, "className": "nginx", "host": "llm.example.com", "tlsSecret": "certificate"}
    objects = chart.render({"gateway": {"ingress": {**ingress, "annotations": {"a": "b"}}}})

    [made] = objects.of("Ingress")
    [rule] = made["spec"]["rules"]
    [path] = rule["http"]["paths"]
    service = path["backend"]["service"]
    assert rule["host"] == "llm.example.com"
    assert service["port"]["name"] in [
        each["name"] for each in objects.one("Service", service["name"])["spec"]["ports"]
    ]
    assert made["spec"]["tls"] == [{"secretName": "certificate", "hosts": ["llm.example.com"]}]


def test_an_ingress_may_serve_every_host(chart):
    [made] = chart.render({"gateway": {"ingress": {"enabled": True}}}).of("Ingress")

    assert set(made["spec"]) == {"rules"}
    assert set(made["spec"]["rules"][0]) == {"http"}


def test_a_route_leads_to_the_gateway(chart):
    route = {"enabled": True, "parentRefs": [{"name": "public", "namespace": "edge"}], "hostnames": ["llm.example.com"]}
    objects = chart.render({"gateway": {"service": {"port": 80}, "httpRoute": route}})

    [made] = objects.of("HTTPRoute")
    assert made["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert made["spec"] == {
        "parentRefs": route["parentRefs"],
        "hostnames": route["hostnames"],
        "rules": [{"backendRefs": [{"name": "signet-gateway", "port": 80}]}],
    }


def test_probes_and_scrapes_speak_tls_where_the_gateway_does(chart):
    tls = {"certificate": "/certificates/tls.crt", "key": "/certificates/tls.key"}
    objects = chart.render({"config": {"gateway": {"tls": tls}}, "serviceMonitor": {"enabled": True}})

    for name, scheme in (("signet-gateway", "HTTPS"), ("signet-engine-default", "HTTP")):
        [container] = objects.pod(name)["spec"]["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["scheme"] == scheme
        [port] = objects.one("Service", name)["spec"]["ports"]
        assert port["appProtocol"] == scheme.lower()
        kind = "gateway" if name == "signet-gateway" else "engine"
        [endpoint] = objects.one("ServiceMonitor", f"signet-{kind}")["spec"]["endpoints"]
        assert endpoint.get("scheme", "http") == scheme.lower()
