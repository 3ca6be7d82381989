"""The database is brought to a release's schema by a Job before its gateways, which then only look at it."""

import base64

import pytest
import yaml

SHARED = {"ledger": {"existingSecret": "my-database"}}
INLINE = {"ledger": {"url": "postgresql://signet:CANARY@db:6543/signet", "port": 6543}}


def hooks(objects):
    return [each for each in objects if "helm.sh/hook" in each["metadata"].get("annotations", {})]


def variables(pod):
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in pod["spec"]["containers"][0]["env"]}


@pytest.mark.parametrize("values", [{}, {"ledger": {"url": "sqlite:////data/signet.db"}}])
def test_a_gateway_with_a_file_of_its_own_upgrades_it_itself(chart, values):
    objects = chart.render(values)

    assert hooks(objects) == []
    assert "SIGNET_DATABASE__MIGRATE" not in variables(objects.pod("signet-gateway"))


def test_a_database_in_the_same_release_is_upgraded_by_its_first_gateway(chart):
    objects = chart.render({"ledger": {"existingSecret": "my-database", "migrate": "start"}})

    assert hooks(objects) == []
    assert "SIGNET_DATABASE__MIGRATE" not in variables(objects.pod("signet-gateway"))


@pytest.mark.parametrize("values", [SHARED, INLINE])
def test_a_job_upgrades_and_gateways_only_look(chart, values):
    objects = chart.render(values)

    job = objects.one("Job", "signet-upgrade")
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["ledger", "upgrade"]
    assert variables(objects.pod("signet-gateway"))["SIGNET_DATABASE__MIGRATE"] == "never"


@pytest.mark.parametrize("values", [SHARED, INLINE, INLINE | {"serviceAccountName": "mine"}])
def test_helm_and_argo_run_it_before_the_release_and_clear_it_away(chart, values):
    objects = chart.render(values)

    for each in hooks(objects):
        annotations = each["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
        assert annotations["argocd.argoproj.io/hook"] == "PreSync"
        assert annotations["argocd.argoproj.io/hook-delete-policy"] == "BeforeHookCreation,HookSucceeded"
        # What the Job needs is there before it.
        weight = 0 if each["kind"] == "Job" else -10
        assert annotations["helm.sh/hook-weight"] == annotations["argocd.argoproj.io/sync-wave"] == str(weight)


@pytest.mark.parametrize("values", [SHARED, INLINE, INLINE | {"serviceAccountName": "mine"}])
def test_the_job_needs_nothing_of_the_release_that_is_not_there_yet(chart, values):
    objects = chart.render(values)
    made_before = {(each["kind"], each["metadata"]["name"]) for each in hooks(objects)}
    made_after = {(each["kind"], each["metadata"]["name"]) for each in objects} - made_before

    spec = objects.one("Job", "signet-upgrade")["spec"]["template"]["spec"]
    secret = variables({"spec": spec})["SIGNET_DATABASE__URL"]["secretKeyRef"]["name"]
    assert ("Secret", secret) not in made_after
    assert ("ServiceAccount", spec["serviceAccountName"]) not in made_after
    assert not [volume for volume in spec["volumes"] if "configMap" in volume]
    assert "CANARY" not in yaml.safe_dump([each for each in objects if each["kind"] != "Secret"])


def test_the_job_reaches_the_database_and_no_service_reaches_the_job(chart):
    objects = chart.render(INLINE)

    labels = objects.one("Job", "signet-upgrade")["spec"]["template"]["metadata"]["labels"]
    policy = objects.one("NetworkPolicy", "signet-upgrade")["spec"]
    ports = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert ports == {53, 5353, 6543}
    selectors = [each["spec"]["selector"] for each in objects.of("Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in objects.of("Deployment")]
    assert not [selector for selector in selectors if selector.items() <= labels.items()]


def test_the_job_goes_where_gateways_go_with_what_they_have(chart):
    gateway = {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
        "extraEnv": [{"name": "PGSSLROOTCERT", "value": "/c/ca.crt"}],
        "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/c"}],
        "initContainers": [{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}],
        "podLabels": {"mesh": "off"},
    }
    pod = chart.render(SHARED | {"gateway": gateway}).one("Job", "signet-upgrade")["spec"]["template"]

    spec = pod["spec"]
    assert pod["metadata"]["labels"]["mesh"] == "off"
    assert (spec["nodeSelector"], spec["tolerations"]) == (gateway["nodeSelector"], gateway["tolerations"])
    assert variables(pod)["PGSSLROOTCERT"] == "/c/ca.crt"
    assert gateway["extraVolumes"][0] in spec["volumes"]
    assert gateway["extraVolumeMounts"][0] in spec["containers"][0]["volumeMounts"]
    assert spec["initContainers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_reports_may_be_read_from_a_replica(chart):
    ledger = {"url": "postgresql://u:p@db/s", "readUrl": "postgresql://u:p@replica/s"}
    objects = chart.render({"ledger": ledger})

    secret = objects.one("Secret", "signet-ledger")
    named = variables(objects.pod("signet-gateway"))["SIGNET_DATABASE__READ_URL"]["secretKeyRef"]
    assert named == {"name": "signet-ledger", "key": "readUrl", "optional": True}
    assert {key: base64.b64decode(value).decode() for key, value in secret["data"].items()} == ledger
