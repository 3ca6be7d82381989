from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT
from serving.gateway.errors import EngineUnavailable, ModelNotFound
from serving.gateway.records import Question
from serving.gateway.routing.models import ModelTable
from serving.gateway.routing.router import Router
from serving.gateway.settings.routing import ModelSettings, RoutingSettings


class Served:
    """An engine as the table sees it."""

    def __init__(self, name: str, *models: str) -> None:
        self.name, self.models = name, models
        self.available = True
        self.circuit = SimpleNamespace(allows=lambda: True)

    def serves(self, model: str) -> bool:
        return model in self.models

    def has_room(self) -> bool:
        return True


def pool(*engines: Served) -> Any:
    cards = {model: {"id": model, "object": "model"} for engine in engines for model in engine.models}
    return SimpleNamespace(engines=list(engines), model_cards=lambda: dict(cards))


def table(models: dict[str, Any], *engines: Served) -> ModelTable:
    return ModelTable({name: ModelSettings.model_validate(value) for name, value in models.items()}, pool(*engines))


def asked(model: str, tenant: str = "acme", **body: Any) -> RequestContext:
    context = RequestContext(CHAT, {}, b"", question=Question(body={"model": model, **body}, model=model))
    context.principal = SimpleNamespace(tenant=tenant)  # type: ignore[assignment]
    return context


def resolved(models: ModelTable, context: RequestContext) -> str:
    """The model that an engine is asked for."""
    models.resolve(context)
    return context.question.model


def test_an_alias_is_asked_for_by_the_models_own_name() -> None:
    models = table({"fast": "small-1"}, Served("a", "small-1"))
    context, plain = asked("fast"), asked("small-1")
    models.resolve(context)
    question = context.question
    assert (question.asked_model, question.model, question.body["model"]) == ("fast", "small-1", "small-1")
    assert models.resolve(plain) is None
    assert (plain.question.asked_model, plain.question.model) == ("small-1", "small-1")


def test_models_are_listed_with_their_aliases() -> None:
    models = table({"fast": "small-1", "absent": "no-such"}, Served("a", "small-1"))
    assert models.cards() == {
        "small-1": {"id": "small-1", "object": "model"},
        "fast": {"id": "fast", "object": "model", "parent": "small-1"},
    }


def test_what_nobody_serves_is_refused_and_what_is_configured_is_waited_for() -> None:
    models = table({"fast": "small-1", "later": "no-such"}, Served("a", "small-1"))
    with pytest.raises(ModelNotFound, match="Served here: fast, small-1"):
        models.resolve(asked("other"))
    with pytest.raises(EngineUnavailable, match="no-such"):
        models.resolve(asked("later"))
    with pytest.raises(EngineUnavailable, match="No engine is ready"):
        table({}).resolve(asked("any"))


def test_a_model_can_be_kept_to_some_engines() -> None:
    engines = Served("blue-1:80", "m"), Served("green-1:80", "m")
    models = table({"only-green": {"target": "m", "engines": ["green-*"]}}, *engines)
    context = asked("only-green")
    route = models.resolve(context)
    assert Router(pool(*engines), RoutingSettings()).choose(context, route).engine is engines[1]
    with pytest.raises(EngineUnavailable):
        Router(pool(engines[0]), RoutingSettings()).choose(context, route)


def test_a_canary_gets_its_share_and_sessions_stay_on_one_side() -> None:
    settings = {"m": {"target": "old", "canary": {"target": "new", "share": 0.2}}}
    models = table(settings, Served("a", "old", "new"))
    drawn = Counter(resolved(models, asked("m")) for _ in range(3000))
    assert 450 < drawn["new"] < 750
    by_session = {user: resolved(models, asked("m", user=str(user))) for user in range(3000)}
    assert 450 < Counter(by_session.values())["new"] < 750
    again = table(settings, Served("b", "old", "new"))
    assert all(resolved(again, asked("m", user=str(user))) == model for user, model in by_session.items())


def test_a_canary_can_stay_with_whole_tenants() -> None:
    canary = {"target": "new", "share": 0.5, "sticky": "tenant"}
    models = table({"m": {"target": "old", "canary": canary}}, Served("a", "old", "new"))
    sides = {tenant: {resolved(models, asked("m", tenant)) for _ in range(20)} for tenant in map(str, range(40))}
    assert all(len(models_of) == 1 for models_of in sides.values())
    assert len({model for models_of in sides.values() for model in models_of}) == 2


def test_a_canary_that_is_down_costs_nobody_an_answer() -> None:
    new = Served("b", "new")
    models = table({"m": {"target": "old", "canary": {"target": "new", "share": 1}}}, Served("a", "old"), new)
    assert resolved(models, asked("m")) == "new"
    new.available = False
    assert resolved(models, asked("m")) == "old"


def test_a_name_that_leads_to_another_is_refused_and_the_old_table_stays() -> None:
    models = table({"fast": "small-1"}, Served("a", "small-1"))
    with pytest.raises(ValueError, match="another configured name"):
        models.apply({"a": ModelSettings(target="b"), "b": ModelSettings(target="small-1")})
    assert resolved(models, asked("fast")) == "small-1"
    models.apply({"quick": ModelSettings(target="small-1")})
    assert resolved(models, asked("quick")) == "small-1"
