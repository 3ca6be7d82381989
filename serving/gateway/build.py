"""Puts the gateway together from the settings."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry

from monitoring.telemetry import GatewayMetrics, observe_ledger, open_tracing
from serving.gateway.adapters import Adapters
from serving.gateway.admission.admission import Admission
from serving.gateway.answer.failover import Failover
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
from serving.gateway.process.expected import expect_series
from serving.gateway.prompts import PromptLibrary
from serving.gateway.routing.models import ModelTable
from serving.gateway.routing.shadow import Shadows
from serving.gateway.steps.cache_salt import CacheSalts
from serving.gateway.steps.inspect import Inspector
from serving.gateway.steps.question import QuestionReader
from serving.gateway.steps.receipt import open_receipts
from serving.gateway.steps.reserve import Reserver
from serving.guard import control_tokens_of
from serving.guard.question.control import ControlTokens
from serving.identity import Identity, Limiter
from serving.ledger import AnchorPublisher, Ledger, PriceList
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
    drains = Drains(identity, pool)
    adapters = Adapters(identity, pool)
    limiter = Limiter.from_settings(
        settings.identity, settings.database_url, settings.home, gateway.workers, metrics.limits_degraded
    )
    prices = PriceList(settings.prices)
    admission = Admission(gateway.admission, pool, gateway.workers)
    models = ModelTable(gateway.models, pool, lambda: identity.live_adapters)
    metrics.watch_admission(admission.state, models.engine_models)
    expect_series(metrics, settings)
    ledger = Ledger(settings.database_url, settings.ledger, settings.spill_folder, settings.database.migrate)
    inspector = Inspector(settings.guard.classifiers, metrics.classifiers)
    pipeline = Pipeline(
        settings=gateway,
        questions=QuestionReader(gateway),
        salts=CacheSalts(keyring, gateway.shared_cache),
        identity=identity,
        limiter=limiter,
        reserver=Reserver(limiter, prices, pool),
        cleaning=RequestCleaning(settings.guard, served_tokens(settings)),
        inspector=inspector,
        policy_steps=PolicySteps(
            settings.guard.policy,
            broken_tokens(settings),
            pool,
            admission,
            lambda: inspector.pool,
            ledger,
            metrics.policy,
        ),
        keyring=keyring,
        pool=pool,
        admission=admission,
        drains=drains,
        adapters=adapters,
        models=models,
        shadows=Shadows(pool, metrics),
        failover=Failover(gateway.failover),
        ledger=ledger,
        anchors=AnchorPublisher(ledger, lambda: pipeline.receipts),
        prices=prices,
        receipts=open_receipts(settings.receipts, settings.receipt_keys_file),
        prompts=PromptLibrary(gateway.prompts),
        metrics=metrics,
        tracing=open_tracing(settings.telemetry),
    )
    observe_ledger(pipeline.ledger, pipeline.anchors, registry)
    rest = build_rest(metrics.error)
    for router in (
        detection_routes(identity, keyring, lambda: pipeline.settings.model_folders, settings.home),
        receipt_routes(identity, lambda: pipeline.receipts),
        feedback_routes(identity, lambda: pipeline.receipts, metrics.rated),
        moderation_routes(lambda: pipeline.inspector),
        *admin_routes(
            identity, pool, drains, adapters, settings.home, pipeline.ledger, settings.receipt_keys_file, reload
        ),
    ):
        # The routes as they are: `include_router` would read each signature and make each model again.
        rest.router.routes.extend(router.routes)
    behind_keys = AuthenticationMiddleware(
        rest, identity, limiter, lambda: pipeline.settings.max_other_body_bytes, metrics.error
    )
    return GatewayApp(pipeline, registry, behind_keys)


def broken_tokens(settings: Settings) -> ControlTokens:
    """What is made inert in a text that a judge is asked about: the tokens that the guard breaks in questions."""
    return ControlTokens(served_tokens(settings), settings.guard.control_tokens)


def served_tokens(settings: Settings) -> frozenset[str]:
    """Control tokens of the models whose tokenizer is at hand."""
    folders = settings.gateway.model_folders.values()
    return frozenset[str]().union(*(control_tokens_of(folder) for folder in folders))
