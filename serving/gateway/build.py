"""Puts the gateway together from the settings."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry

from monitoring.telemetry import GatewayMetrics, observe_ledger, open_tracing
from serving.database import Reader
from serving.gateway.adapters import Adapters
from serving.gateway.admission.admission import Admission
from serving.gateway.api.access import AuthenticationMiddleware
from serving.gateway.api.admin import admin_routes
from serving.gateway.api.detection import detection_routes
from serving.gateway.api.feedback import feedback_routes
from serving.gateway.api.moderations import moderation_routes
from serving.gateway.api.receipts import receipt_routes
from serving.gateway.api.rest import build_rest
from serving.gateway.app import GatewayApp
from serving.gateway.cleaning import RequestCleaning
from serving.gateway.engines.drains import Drains
from serving.gateway.engines.pool import EnginePool
from serving.gateway.pipeline import Pipeline
from serving.gateway.policy import PolicySteps
from serving.gateway.prompts import PromptLibrary
from serving.gateway.routing.models import ModelTable
from serving.gateway.routing.router import Router
from serving.gateway.stages.admit import Admit
from serving.gateway.stages.answer import Answer
from serving.gateway.stages.check import Check, broken_tokens, served_tokens
from serving.gateway.stages.understand import Understand
from serving.gateway.steps.cache_salt import CacheSalts
from serving.gateway.steps.inspect import Inspector
from serving.gateway.steps.reserve import Reserver
from serving.identity import Identity, Limiter
from serving.ledger import Ledger, PriceList
from serving.provenance import Keyring
from serving.settings import Settings


def build(settings: Settings, reload: Callable[[], list[str]]) -> GatewayApp:
    """Put the gateway together. Opens the database, which may be away, and the keyring.

    `reload` is what an administrator's reload calls: it returns what changed, or raises SettingsError.

    Raises:
        DatabaseError, IdentityError, KeyringError, PolicyError: with one line for the user.
    """
    gateway = settings.gateway
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    identity = Identity(settings.database_url, settings.identity, settings.database.migrate, wait=True)
    keyring = Keyring.open(settings.keyring_file, create=True)
    pool = EnginePool(gateway, metrics)
    router = Router(pool, gateway.routing)
    drains = Drains(identity, pool)
    adapters = Adapters(identity, pool)
    records = Reader(settings.database_url, settings.database.read_timeout_s)
    reports = Reader(settings.database.resolve_reads(settings.home), settings.database.read_timeout_s)
    limiter = Limiter.from_settings(settings.identity, records, settings.home, gateway.workers, metrics.limits_degraded)
    prices = PriceList(settings.prices)
    admission = Admission(gateway.admission, pool, gateway.workers)
    models = ModelTable(gateway.models, pool, lambda: identity.live_adapters)
    metrics.watch_admission(admission.state, models.engine_models)
    ledger = Ledger(settings.database_url, settings.ledger, settings.spill_folder, settings.database.migrate)
    inspector = Inspector(settings.guard.classifiers, metrics.classifiers)
    cleaning = RequestCleaning(settings.guard, served_tokens(settings))
    policy_steps = PolicySteps(
        settings.guard.policy,
        broken_tokens(settings),
        router,
        admission,
        lambda: inspector.pool,
        ledger,
        metrics.policy,
    )
    answer = Answer(
        settings, router, drains, adapters, policy_steps, ledger, prices, metrics, open_tracing(settings.telemetry)
    )
    understand = Understand(
        gateway,
        identity,
        CacheSalts(keyring, gateway.shared_cache),
        cleaning,
        PromptLibrary(gateway.prompts),
        models,
        pool.only_model,
        lambda: answer.receipts,
    )
    pipeline = Pipeline(
        understand,
        Admit(limiter, Reserver(limiter, prices, pool), admission),
        Check(cleaning, keyring, pool, inspector, policy_steps),
        answer,
    )
    observe_ledger(ledger, answer.anchors, registry)
    rest = build_rest(metrics.error)
    for routes in (
        detection_routes(identity, keyring, lambda: app.settings.gateway.model_folders, settings.home),
        receipt_routes(identity, lambda: answer.receipts),
        feedback_routes(identity, lambda: answer.receipts, metrics.rated),
        moderation_routes(lambda: inspector),
        *admin_routes(
            identity,
            pool,
            drains,
            adapters,
            settings.home,
            ledger,
            records,
            reports,
            settings.receipt_keys_file,
            reload,
        ),
    ):
        # The routes as they are: `include_router` would read each signature and make each model again.
        rest.router.routes.extend(routes.routes)
    behind_keys = AuthenticationMiddleware(
        rest, identity, limiter, lambda: app.settings.gateway.max_other_body_bytes, metrics.error
    )

    def close() -> None:
        records.close()
        reports.close()

    app = GatewayApp(pipeline, settings, registry, behind_keys, close)
    return app
