"""What a user gets wrong in the values ends the command with one line that says what and what to do."""

import pytest

MISTAKES = {
    "replicas-on-sqlite": (
        {"gateway": {"replicas": 2, "autoscaling": {"enabled": False}}},
        "the gateway may run 2 replicas, but its ledger is an SQLite file that only one can write: set ledger.url",
    ),
    "autoscaling-on-sqlite": ({"gateway": {"autoscaling": {"maxReplicas": 3}}}, "the gateway may run 3 replicas"),
    "replicas-on-sqlite-url": (
        {"ledger": {"url": "sqlite:////data/x.db"}, "gateway": {"autoscaling": {"maxReplicas": 2}}},
        "the gateway may run 2 replicas",
    ),
    "two-pools-of-one-name": (
        {"engines": [{"name": "chat", "model": "a@1"}, {"name": "chat", "model": "b@1"}]},
        'two entries of engines are named "chat"',
    ),
    "minimum-above-maximum": (
        {"engines": [{"name": "chat", "model": "a@1", "autoscaling": {"minReplicas": 5, "maxReplicas": 2}}]},
        'engine pool "chat": autoscaling.minReplicas (5) is above autoscaling.maxReplicas (2)',
    ),
    "engines-scale-on-cpu": (
        {"engineDefaults": {"autoscaling": {"maxReplicas": 4}}},
        'engine pool "default" would scale on CPU, which a busy engine uses up whatever the load, and one on GPUs '
        'hardly uses: set autoscaling.signals: [{type: external, metric: signet_gateway_in_flight, target: "16"}]',
    ),
    "gpu-engines-scale-on-cpu-beside-another-signal": (
        {
            "engines": [
                {
                    "name": "chat",
                    "model": "a@1",
                    "gpus": 1,
                    "autoscaling": {
                        "maxReplicas": 4,
                        "signals": [{"type": "external", "metric": "m", "target": "1"}, {"type": "cpu", "target": 80}],
                    },
                }
            ]
        },
        'engine pool "chat" would scale on CPU',
    ),
    "gateway-scales-out-while-idle": (
        {
            "ledger": {"existingSecret": "x"},
            "gateway": {"workers": 4, "autoscaling": {"maxReplicas": 2}, "resources": {"requests": {"cpu": "2500m"}}},
        },
        "the gateway would scale out while its 4 worker(s) are mostly idle, since its CPU request is 2500m: "
        'set gateway.resources.requests.cpu to "4"',
    ),
    "gateway-scales-on-cpu-without-a-request": (
        {
            "ledger": {"existingSecret": "x"},
            "gateway": {"autoscaling": {"maxReplicas": 2}, "resources": {"requests": {"cpu": 0}}},
        },
        "its CPU request is 0",
    ),
    "empty-section": ({"config": {"telemetry": None}}, "at '/config/telemetry': got null, want object"),
    "empty-section-of-a-section": (
        {"config": {"ledger": {"anchors": None}}},
        "at '/config/ledger/anchors': got null, want object",
    ),
    "delay-in-words": (
        {"config": {"gateway": {"drain_delay_s": "60s"}}},
        "at '/config/gateway/drain_delay_s': got string, want number",
    ),
    "journal-that-goes-with-its-pod": (
        {"ledger": {"existingSecret": "x"}, "config": {"ledger": {"when_unavailable": "spill"}}},
        "ledger.when_unavailable: spill would lose records",
    ),
    "journal-by-variable": (
        {
            "ledger": {"url": "postgresql://h/d"},
            "gateway": {"extraEnv": [{"name": "SIGNET_LEDGER__WHEN_UNAVAILABLE", "value": "spill"}]},
        },
        "ledger.when_unavailable: spill would lose records",
    ),
    "route-without-a-gateway": (
        {"gateway": {"httpRoute": {"enabled": True}}},
        "name one in gateway.httpRoute.parentRefs",
    ),
    "no-engine": ({"engines": []}, "the gateway has no engine: name a pool in engines"),
    "gpus-without-model": (
        {"engineDefaults": {"gpus": 1}},
        'engine pool "default" has GPUs and no model: the embedded model is in the CPU engine\'s image only',
    ),
    "no-update-possible": (
        {"engineDefaults": {"rollout": {"maxSurge": 0, "maxUnavailable": 0}}},
        "no update could ever happen",
    ),
    "receipt-keys-twice": (
        {"receipts": {"keys": "{}", "existingSecret": "x"}},
        "receipts.keys and receipts.existingSecret are both set",
    ),
    "keyring-twice": (
        {"marks": {"keyring": "{}", "existingSecret": "x"}},
        "marks.keyring and marks.existingSecret are both set",
    ),
    "engine-key-twice": (
        {"engineKey": {"key": "0123456789abcdef", "existingSecret": "x"}},
        "engineKey.key and engineKey.existingSecret are both set",
    ),
    "engine-key-too-short": ({"engineKey": {"key": "secret"}}, "at '/engineKey/key'"),
    "engine-key-in-config": (
        {"config": {"gateway": {"engine_api_key": "0123456789abcdef"}}},
        "config.gateway.engine_api_key would show the engines' key in a ConfigMap",
    ),
    "password-in-config": (
        {"config": {"database": {"url": "postgresql://u:p@h/d"}}},
        "config.database.url would show the database's password in a ConfigMap",
    ),
    "replicas-password-in-config": (
        {"config": {"database": {"read_url": "postgresql://u:p@h/d"}}},
        "config.database.read_url would show the database's password in a ConfigMap: use ledger.readUrl",
    ),
    "replica-beside-a-secret": (
        {"ledger": {"existingSecret": "x", "readUrl": "postgresql://u:p@h/d"}},
        "put it into the Secret of ledger.existingSecret, under the key readUrl",
    ),
    "limits-in-config": (
        {"config": {"identity": {"limits_url": "redis://:p@h/0"}}},
        "config.identity.limits_url would show a password in a ConfigMap",
    ),
    "limits-not-redis": ({"limits": {"url": "memcached://h"}}, "at '/limits/url'"),
    "unknown-discovery": ({"gateway": {"discovery": "consul"}}, "at '/gateway/discovery'"),
    "unknown-value": ({"gateway": {"replica": 2}}, "additional properties 'replica' not allowed"),
    "unknown-value-of-a-pool": (
        {"engines": [{"name": "a", "model": "m@1", "gpu": 1}]},
        "at '/engines/0': additional properties 'gpu' not allowed",
    ),
    "pool-without-name": ({"engines": [{"model": "m@1"}]}, "missing property 'name'"),
    "pool-without-model": ({"engines": [{"name": "a"}]}, "missing property 'model'"),
    "bad-pool-name": ({"engines": [{"name": "Chat_1", "model": "m@1"}]}, "at '/engines/0/name'"),
    "latest": ({"gateway": {"image": {"tag": "latest"}}}, "at '/gateway/image/tag'"),
    "root": ({"user": 0}, "at '/user'"),
    "wrong-type": ({"gateway": {"drainSeconds": "30s"}}, "at '/gateway/drainSeconds': got string, want integer"),
    "bad-quantity": ({"registry": {"size": "100 GB"}}, "at '/registry/size'"),
    "unknown-signal": (
        {"gateway": {"autoscaling": {"signals": [{"type": "latency", "target": 5}]}}},
        "at '/gateway/autoscaling/signals/0'",
    ),
    "mysql": ({"ledger": {"url": "mysql://h/d"}}, "at '/ledger/url'"),
}


@pytest.mark.parametrize(("values", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_is_refused_with_its_cause(chart, values, message):
    result = chart.template(values)

    assert result.returncode != 0
    assert message in result.stderr
    assert "nil pointer" not in result.stderr
