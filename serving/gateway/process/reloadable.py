"""What of a running gateway takes on which settings. What is not named here needs a restart."""

from __future__ import annotations

from serving.gateway.app import GatewayApp
from serving.gateway.build import broken_tokens, served_tokens
from serving.gateway.process.expected import expect_series
from serving.gateway.process.reload import Part
from serving.gateway.steps.receipt import open_receipts
from serving.http.server import Server
from serving.settings import Settings


def parts_of(app: GatewayApp, server: Server) -> list[Part]:
    """Every part that can change at run time, those first that may refuse."""
    pipeline = app.pipeline

    def guard(settings: Settings) -> None:
        pipeline.policy_steps.apply(settings.guard.policy, broken_tokens(settings))
        pipeline.cleaning.apply(settings.guard, served_tokens(settings))
        pipeline.inspector.apply(settings.guard.classifiers)
        pipeline.settings = settings.gateway
        expect_series(pipeline.metrics, settings)

    def models(settings: Settings) -> None:
        pipeline.models.apply(settings.gateway.models)
        expect_series(pipeline.metrics, settings)

    def bounds(settings: Settings) -> None:
        server.apply(settings.gateway.http)
        server.apply_cors(settings.gateway.cors)
        server.max_body_bytes = settings.gateway.max_body_bytes
        pipeline.settings = settings.gateway
        pipeline.questions.apply(settings.gateway)
        pipeline.salts.apply(settings.gateway.shared_cache)

    def receipts(settings: Settings) -> None:
        pipeline.receipts = open_receipts(settings.receipts, settings.receipt_keys_file)

    return [
        Part(
            (
                "gateway.engine_urls",
                "gateway.engine_api_key",
                "gateway.engine_dns",
                "gateway.engine_dns_interval_s",
                "gateway.engine_services",
                "gateway.kubeconfig",
                "gateway.engine_tls",
                "gateway.circuit",
                "gateway.max_connections_per_engine",
                "gateway.connect_timeout_s",
                "gateway.first_byte_timeout_s",
                "gateway.idle_timeout_s",
                "gateway.probe_interval_s",
                "gateway.probe_timeout_s",
                "gateway.load_interval_s",
                "gateway.routing",
            ),
            lambda settings: pipeline.pool.apply(settings.gateway),
        ),
        Part(("gateway.models",), models),
        Part(("guard", "gateway.model_folders"), guard),
        Part(
            ("identity.poll_interval_s", "identity.last_used_interval_s", "identity.jwt"),
            lambda settings: pipeline.identity.apply(settings.identity),
        ),
        Part(
            ("identity.budget_answer_tokens", "identity.budget_compare_s"),
            lambda settings: pipeline.limiter.apply(settings.identity),
        ),
        Part(("ledger",), lambda settings: pipeline.ledger.apply(settings.ledger)),
        Part(("receipts",), receipts),
        Part(("prices",), lambda settings: pipeline.prices.apply(settings.prices)),
        Part(("gateway.admission",), lambda settings: pipeline.admission.apply(settings.gateway.admission)),
        Part(("gateway.prompts",), lambda settings: pipeline.prompts.apply(settings.gateway.prompts)),
        Part(("gateway.failover",), lambda settings: pipeline.failover.apply(settings.gateway.failover)),
        Part(
            (
                "gateway.http",
                "gateway.cors",
                "gateway.max_body_bytes",
                "gateway.max_other_body_bytes",
                "gateway.max_choices",
                "gateway.max_answer_tokens",
                "gateway.max_answer_bytes",
                "gateway.max_embedding_inputs",
                "gateway.unknown_fields",
                "gateway.engine_fields",
                "gateway.media_hosts",
                "gateway.bind_forced_tools",
                "gateway.shared_cache",
                "gateway.drain_delay_s",
                "gateway.drain_timeout_s",
                "gateway.reload_interval_s",
            ),
            bounds,
        ),
    ]
