"""Pods meet the restricted pod security standard, and secrets go only where they are needed."""

import base64

import yaml


def test_pods_are_restricted(objects, values):
    for pod in objects.all_pods():
        spec = pod["spec"]
        watches = values.get("gateway", {}).get("discovery") == "endpointSlices"
        assert spec["automountServiceAccountToken"] is (watches and spec["containers"][0]["name"] == "gateway")
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert ("runAsUser" in spec["securityContext"]) == (values.get("user", 1) is not None)
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert not [volume for volume in spec["volumes"] if "hostPath" in volume]
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["privileged"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_pods_write_only_to_volumes_of_their_own(objects):
    for pod in objects.all_pods():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        writable = [mounted for mounted in pod["spec"]["containers"][0]["volumeMounts"] if not mounted.get("readOnly")]
        for mount in writable:
            volume = volumes[mount["name"]]
            assert "emptyDir" in volume or mount["name"] == "home"
        assert "/tmp" in {mount["mountPath"] for mount in writable}


def test_service_links_stay_out_of_the_environment(objects):
    """A Service named signet-gateway would set SIGNET_GATEWAY_PORT, which the settings refuse as unknown."""
    assert all(pod["spec"]["enableServiceLinks"] is False for pod in objects.all_pods())


def test_requests_are_set(objects):
    for pod in objects.all_pods():
        resources = pod["spec"]["containers"][0]["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"])
        assert "memory" in resources["limits"]


def test_images_are_pinned(objects):
    for pod in objects.all_pods():
        image = pod["spec"]["containers"][0]["image"]
        assert "@sha256:" in image or image.rpartition(":")[2] not in ("", "latest")


def test_secrets_are_rendered_into_secrets_alone(chart):
    from_case = {
        "marks": {"keyring": "CANARY-keyring"},
        "receipts": {"keys": "CANARY-receipts"},
        "ledger": {"url": "postgresql+psycopg://signet:CANARY-password@db/signet"},
        "engineKey": {"key": "CANARY-engine-key"},
        "huggingFace": {"token": "CANARY-token"},
    }

    objects = chart.render(from_case)

    content = {
        key: base64.b64decode(value).decode()
        for secret in objects.of("Secret")
        for key, value in secret["data"].items()
    }
    assert content == {
        "keyring.json": "CANARY-keyring",
        "receipt-keys.json": "CANARY-receipts",
        "url": "postgresql+psycopg://signet:CANARY-password@db/signet",
        "key": "CANARY-engine-key",
        "token": "CANARY-token",
    }
    for document in objects:
        if document["kind"] != "Secret":
            assert "CANARY" not in yaml.safe_dump(document)
            assert base64.b64encode(b"CANARY-keyring").decode() not in yaml.safe_dump(document)


def test_each_pod_gets_the_secrets_it_needs(chart):
    objects = chart.render(
        {
            section: {"existingSecret": section}
            for section in ("marks", "receipts", "ledger", "limits", "engineKey", "huggingFace")
        }
    )

    assert secrets_of(objects.pod("signet-gateway")) == {"marks", "receipts", "ledger", "limits", "engineKey"}
    assert secrets_of(objects.pod("signet-engine-default")) == {"marks", "engineKey", "huggingFace"}
    assert objects.of("Secret") == []


def secrets_of(pod: dict) -> set[str]:
    files = {volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume}
    variables = {
        variable["valueFrom"]["secretKeyRef"]["name"]
        for variable in pod["spec"]["containers"][0]["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    return files | variables


def test_no_secret_without_a_value_but_the_engines_key(chart):
    objects = chart.render({})

    [made] = objects.of("Secret")
    name = made["metadata"]["name"]
    assert secrets_of(objects.pod("signet-gateway")) == secrets_of(objects.pod("signet-engine-default")) == {name}
    assert len(base64.b64decode(made["data"]["key"])) >= 32


def test_engines_ask_for_the_key_that_the_gateway_sends(objects, values):
    """By environment: arguments show in the list of processes."""
    variables = [
        {variable["name"]: variable.get("valueFrom") for variable in pod["spec"]["containers"][0]["env"]}
        for pod in objects.pods()
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] != "drift"
    ]
    keys = [variable.get("SIGNET_GATEWAY__ENGINE_API_KEY") for variable in variables]
    assert all(key == keys[0] for key in keys)
    assert keys[0] is not None or values.get("gateway", {}).get("externalEngines")


def test_no_key_is_made_that_others_would_be_sent(chart):
    elsewhere = {"gateway": {"externalEngines": ["http://elsewhere:8000"]}}
    assert chart.render(elsewhere).of("Secret") == []
    assert secrets_of(chart.render({**elsewhere, "engines": []}).pod("signet-gateway")) == set()

    told = chart.render({**elsewhere, "engineKey": {"existingSecret": "mine"}})
    assert secrets_of(told.pod("signet-gateway")) == secrets_of(told.pod("signet-engine-default")) == {"mine"}


def test_the_key_that_was_made_is_kept_over_upgrades(chart, cluster):
    first = chart.render({})
    [made] = first.of("Secret")
    cluster.learn(first)
    owned = {"meta.helm.sh/release-name": "signet", "meta.helm.sh/release-namespace": made["metadata"]["namespace"]}
    installed = {**made, "metadata": {**made["metadata"], "annotations": owned}}
    cluster.objects["secrets", made["metadata"]["name"]] = installed

    kept = chart.render({}, "--dry-run=server", "--disable-openapi-validation", *cluster.arguments)

    assert kept.of("Secret")[0]["data"] == made["data"]
    assert chart.render({}).of("Secret")[0]["data"] != made["data"], "without a cluster it is another one"
    assert first.pods() == kept.pods()


def test_keyring_file_is_closed_to_other_users(chart):
    """The program refuses a keyring that every user may read."""
    objects = chart.render({"marks": {"existingSecret": "keyring"}})

    for pod in objects.pods():
        [volume] = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "keyring"]
        assert volume["secret"]["defaultMode"] & 0o007 == 0


def test_only_a_gateway_that_watches_may_ask_kubernetes_and_only_for_endpoints(objects, values):
    watches = values.get("gateway", {}).get("discovery") == "endpointSlices"
    rules = [rule for role in objects.of("Role") for rule in role["rules"]]
    expected = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
    assert rules == ([expected] if watches else [])
    for binding in objects.of("RoleBinding"):
        [subject] = binding["subjects"]
        assert subject["name"] == objects.pod("signet-gateway")["spec"]["serviceAccountName"]
        assert objects.one("Role", binding["roleRef"]["name"])
    assert not objects.of("ClusterRole")
