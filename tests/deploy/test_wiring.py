"""The objects fit together: what one names, another has."""

import pytest

SELECTOR = ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component")


def matches(selector: dict, labels: dict) -> bool:
    return selector.items() <= labels.items()


def selected(objects, selector: dict) -> list[str]:
    """Names of the Deployments whose pods a selector matches."""
    return [
        deployment["metadata"]["name"]
        for deployment in objects.of("Deployment")
        if matches(selector, deployment["spec"]["template"]["metadata"]["labels"])
    ]


def ports(pod: dict) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}


def test_deployments_select_their_own_pods_alone(objects):
    for deployment in objects.of("Deployment"):
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert selected(objects, selector) == [deployment["metadata"]["name"]]
        assert set(SELECTOR) <= set(selector)


def test_services_reach_a_port_of_their_own_deployment(objects):
    assert len(objects.of("Service")) == len(objects.of("Deployment"))
    for service in objects.of("Service"):
        name = service["metadata"]["name"]
        assert selected(objects, service["spec"]["selector"]) == [name]
        [port] = service["spec"]["ports"]
        assert port["targetPort"] in ports(objects.pod(name))


def test_disruption_budgets_cover_their_own_deployment(objects):
    for budget in objects.of("PodDisruptionBudget"):
        assert selected(objects, budget["spec"]["selector"]["matchLabels"]) == [budget["metadata"]["name"]]


def test_a_single_replica_never_blocks_a_node_drain(objects):
    for budget in objects.of("PodDisruptionBudget"):
        assert "minAvailable" not in budget["spec"]
        assert budget["spec"]["maxUnavailable"] not in (0, "0%")


def test_autoscalers_have_a_target_that_leaves_replicas_to_them(objects):
    scaled = set()
    for scaler in objects.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        deployment = objects.one(target["kind"], target["name"])
        assert "replicas" not in deployment["spec"]
        scaled.add(target["name"])
    for deployment in objects.of("Deployment"):
        assert ("replicas" in deployment["spec"]) == (deployment["metadata"]["name"] not in scaled)


def test_cpu_signals_have_a_request_to_be_measured_against(objects):
    for scaler in objects.of("HorizontalPodAutoscaler"):
        if any(metric["type"] == "Resource" for metric in scaler["spec"]["metrics"]):
            [container] = objects.pod(scaler["spec"]["scaleTargetRef"]["name"])["spec"]["containers"]
            assert "cpu" in container["resources"]["requests"]


def test_service_monitors_select_services_with_that_port(objects):
    for monitor in objects.of("ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        found = [service for service in objects.of("Service") if matches(selector, service["metadata"]["labels"])]
        engines = any("engine" in deployment["metadata"]["name"] for deployment in objects.of("Deployment"))
        assert found or (monitor["metadata"]["name"].endswith("-engine") and not engines)
        for service in found:
            names = {port["name"] for port in service["spec"]["ports"]}
            assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= names


def test_service_monitors_select_gateway_and_engines_once(chart):
    objects = chart.render({"serviceMonitor": {"enabled": True}})

    found = [
        service["metadata"]["name"]
        for monitor in objects.of("ServiceMonitor")
        for service in objects.of("Service")
        if matches(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])
    ]

    assert sorted(found) == ["signet-engine-default", "signet-gateway"]


def test_volumes_and_mounts_name_each_other(objects):
    for pod in objects.pods():
        [container] = pod["spec"]["containers"]
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        assert volumes == {mount["name"] for mount in container["volumeMounts"]}
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert len(paths) == len(set(paths))


def test_what_pods_refer_to_is_rendered_or_said_to_exist(objects, values):
    have = {(document["kind"], document["metadata"]["name"]) for document in objects}
    existing = {
        values.get("marks", {}).get("existingSecret"),
        values.get("receipts", {}).get("existingSecret"),
        values.get("ledger", {}).get("existingSecret"),
        values.get("limits", {}).get("existingSecret"),
        values.get("engineKey", {}).get("existingSecret"),
        values.get("huggingFace", {}).get("existingSecret"),
        values.get("registry", {}).get("existingClaim"),
        values.get("registry", {}).get("trustedKeysConfigMap"),
        values.get("serviceAccountName"),
        "s",  # the case's own variable
    }
    for pod in objects.pods():
        for kind, name in references(pod["spec"]):
            assert (kind, name) in have or name in existing, f"{kind} {name} comes from nowhere"


def references(spec: dict):
    yield "ServiceAccount", spec["serviceAccountName"]
    for volume in spec["volumes"]:
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for variable in spec["containers"][0]["env"]:
        if "valueFrom" in variable:
            yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"]


def test_spread_counts_the_deployments_own_pods(objects):
    for deployment in objects.of("Deployment"):
        for constraint in deployment["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
            assert selected(objects, constraint["labelSelector"]["matchLabels"]) == [deployment["metadata"]["name"]]


def test_every_claim_is_mounted(objects):
    mounted = {
        volume["persistentVolumeClaim"]["claimName"]
        for pod in objects.pods()
        for volume in pod["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }

    assert {claim["metadata"]["name"] for claim in objects.of("PersistentVolumeClaim")} <= mounted


def test_gateways_share_no_sqlite_file(objects):
    gateway = next(
        deployment for deployment in objects.of("Deployment") if deployment["metadata"]["name"].endswith("-gateway")
    )
    [home] = [volume for volume in gateway["spec"]["template"]["spec"]["volumes"] if volume["name"] == "home"]

    if "persistentVolumeClaim" in home:
        assert gateway["spec"]["strategy"]["type"] == "Recreate"
        scalers = [
            scaler
            for scaler in objects.of("HorizontalPodAutoscaler")
            if scaler["metadata"]["name"].endswith("-gateway")
        ]
        most = scalers[0]["spec"]["maxReplicas"] if scalers else gateway["spec"]["replicas"]
        assert most == 1
    else:
        assert gateway["spec"]["strategy"]["type"] == "RollingUpdate"


@pytest.mark.parametrize(
    ("model", "uses_registry"),
    [
        ("", False),
        ("chat", True),
        ("chat@3", True),
        ("chat@production", True),
        ("sha256:0123456789ab", True),
        ("/models/chat", False),
        ("Qwen/Qwen3-0.6B", False),
    ],
)
def test_registry_is_mounted_read_only_where_a_checkpoint_is_named(chart, model, uses_registry):
    objects = chart.render({"engines": [{"name": "chat", "model": model}]})

    for name in ("signet-gateway", "signet-engine-chat"):
        pod = objects.pod(name)
        mounts = [mounted for mounted in pod["spec"]["containers"][0]["volumeMounts"] if mounted["name"] == "registry"]
        assert bool(mounts) == uses_registry
        assert all(mount["readOnly"] for mount in mounts)
        volumes = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "registry"]
        assert all(volume["persistentVolumeClaim"]["readOnly"] for volume in volumes)
    assert len(objects.of("PersistentVolumeClaim")) == 1 + uses_registry


def test_a_pool_overrides_a_part_and_keeps_the_rest(chart):
    objects = chart.render(
        {
            "engineDefaults": {"resources": {"limits": {"memory": "9Gi"}}},
            "engines": [
                {"name": "a", "model": "m@1", "resources": {"requests": {"cpu": "7"}}},
                {"name": "b", "model": "m@1"},
            ],
        }
    )

    [a], [b] = (objects.pod(f"signet-engine-{name}")["spec"]["containers"] for name in "ab")

    assert a["resources"] == {"requests": {"cpu": "7", "memory": "6Gi"}, "limits": {"memory": "9Gi"}}
    assert b["resources"] == {"requests": {"cpu": "2", "memory": "6Gi"}, "limits": {"memory": "9Gi"}}


def test_gpus_are_limits_and_choose_the_image(chart):
    objects = chart.render({"engines": [{"name": "a", "model": "m@1", "gpus": 2}, {"name": "b", "model": "m@1"}]})

    [a], [b] = (objects.pod(f"signet-engine-{name}")["spec"]["containers"] for name in "ab")

    assert a["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert a["image"] == "signet-engine-gpu:0.1.0"
    assert "nvidia.com/gpu" not in b["resources"]["limits"]
    assert b["image"] == "signet-engine-cpu:0.1.0"


@pytest.mark.parametrize(("replicas", "expected"), [(None, None), (0, 0), (3, 3)])
def test_a_pool_may_be_at_zero_and_left_to_another_autoscaler(chart, replicas, expected):
    values = {"engineDefaults": {"autoscaling": {"enabled": False}, "replicas": replicas}}
    objects = chart.render(values)

    assert objects.one("Deployment", "signet-engine-default")["spec"].get("replicas") == expected
    assert [each["metadata"]["name"] for each in objects.of("HorizontalPodAutoscaler")] == ["signet-gateway"]
