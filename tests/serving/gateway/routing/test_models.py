from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT
from serving.gateway.errors import EngineUnavailable, ModelNotFound
from serving.gateway.routing.choose import choose_engine
from serving.gateway.routing.models import ModelTable
from serving.gateway.routing.settings import ModelSettings


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
    context = RequestContext(CHAT, {}, b"", body={"model": model, **body}, model=model)
    context.principal = SimpleNamespace(tenant=tenant)  # type: ignore[assignment]
    return context


def test_an_alias_is_asked_for_by_the_models_own_name() -> None:
    models = table({"fast": "small-1"}, Served("a", "small-1"))
    context = models.resolve(asked("fast"))
    assert (context.asked_model, context.model, context.body["model"]) == ("fast", "small-1", "small-1")
    plain = models.resolve(asked("small-1"))
    assert (plain.asked_model, plain.model, plain.route) == ("small-1", "small-1", None)


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
    context = models.resolve(asked("only-green"))
    assert choose_engine(pool(*engines), context) is engines[1]
    with pytest.raises(EngineUnavailable):
        choose_engine(pool(engines[0]), context)


def test_a_canary_gets_its_share_and_sessions_stay_on_one_side() -> None:
    settings = {"m": {"target": "old", "canary": {"target": "new", "share": 0.2}}}
    models = table(settings, Served("a", "old", "new"))
    drawn = Counter(models.resolve(asked("m")).model for _ in range(3000))
    assert 450 < drawn["new"] < 750
    by_session = {user: models.resolve(asked("m", user=str(user))).model for user in range(3000)}
    assert 450 < Counter(by_session.values())["new"] < 750
    again = table(settings, Served("b", "old", "new"))
    assert all(again.resolve(asked("m", user=str(user))).model == model for user, model in by_session.items())


def test_a_canary_can_stay_with_whole_tenants() -> None:
    canary = {"target": "new", "share": 0.5, "sticky": "tenant"}
    models = table({"m": {"target": "old", "canary": canary}}, Served("a", "old", "new"))
    sides = {tenant: {models.resolve(asked("m", tenant)).model for _ in range(20)} for tenant in map(str, range(40))}
    assert all(len(models_of) == 1 for models_of in sides.values())
    assert len({model for models_of in sides.values() for model in models_of}) == 2


def test_a_canary_that_is_down_costs_nobody_an_answer() -> None:
    new = Served("b", "new")
    models = table({"m": {"target": "old", "canary": {"target": "new", "share": 1}}}, Served("a", "old"), new)
    assert models.resolve(asked("m")).model == "new"
    new.available = False
    assert models.resolve(asked("m")).model == "old"


def test_a_name_that_leads_to_another_is_refused_and_the_old_table_stays() -> None:
    models = table({"fast": "small-1"}, Served("a", "small-1"))
    with pytest.raises(ValueError, match="another configured name"):
        models.apply({"a": ModelSettings(target="b"), "b": ModelSettings(target="small-1")})
    assert models.resolve(asked("fast")).model == "small-1"
    models.apply({"quick": ModelSettings(target="small-1")})
    assert models.resolve(asked("quick")).model == "small-1"
