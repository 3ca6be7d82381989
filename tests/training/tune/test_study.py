"""The search itself, with trials that train nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import text

from loadtests.tools.services import Postgres
from training.errors import RecipeError, TrainingError
from training.outcome import Context
from training.recipes.sections import GradientRecipe
from training.registry import Registry
from training.tune.results import conclude
from training.tune.study import Pruning, closing, finished, open_store, open_study, work
from training.tune.trials import ERROR, Measure, Trials

RECIPE = GradientRecipe.model_validate(
    {"method": "sft", "name": "any", "steps": 1, "search": {"optimizer.learning_rate": {"low": 0.1, "high": 0.9}}}
)
Run = Callable[[float, Any], float]


class Fake(Trials):
    """Trials whose run is a function of the learning rate and of who listens."""

    def _run(self, values: Mapping[str, object], context: Context) -> float:
        return RUNS[self.recipe.name](float(str(values["optimizer.learning_rate"])), context)


RUNS: dict[str, Run] = {}
STORES: list[RDBStorage] = []


def fake(home: Path, store: Registry, most: int, run: Run) -> Trials:
    RUNS["any"] = run
    context = Context(
        recipe_path=home / "recipe.yaml", home=home, registry=store, find_model=lambda ref: pytest.fail(ref), show=False
    )
    assert RECIPE.search is not None
    return Fake(RECIPE, RECIPE.search, Measure("loss", "minimize"), context, home / "tune" / "any", most)


def study(home: Path, url: str = "", pruning: Pruning = "median") -> optuna.Study:
    home.mkdir(exist_ok=True)
    STORES.append(open_store(url or f"sqlite:///{home / 'studies.db'}"))
    return open_study(STORES[-1], "any", "minimize", 0, pruning)


@pytest.fixture(autouse=True)
def _closed_stores() -> Iterator[None]:
    yield
    while STORES:
        STORES.pop().engine.dispose()


@pytest.fixture
def postgres() -> Iterator[str]:
    """The address of an empty database, as a user writes it."""
    with Postgres.run() as server:
        yield server.dsn


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def url(request: pytest.FixtureRequest) -> str:
    """Of a store of each kind."""
    return str(request.getfixturevalue("postgres")) if request.param == "postgres" else ""


def test_workers_at_once_share_the_trials_and_others_go_on(home: Path, store: Registry, url: str) -> None:
    def workers(count: int, most: int) -> None:
        together = threading.Barrier(count)

        def one() -> None:
            mine = study(home, url)
            together.wait(timeout=30)
            work(mine, fake(home, store, most, lambda rate, _: rate), show=False)

        started = [threading.Thread(target=one) for _ in range(count)]
        for worker in started:
            worker.start()
        for worker in started:
            worker.join(timeout=120)

    study(home, url)
    workers(3, 8)
    assert len(finished(study(home, url))) == 8
    workers(2, 10)

    done = finished(study(home, url))
    assert len(done) == 10
    assert len({trial.params["optimizer.learning_rate"] for trial in done}) == 10


def test_hyperband_ends_bad_trials_early_and_none_lets_them_go_on(home: Path, store: Registry) -> None:
    looks: list[int] = []

    def run(rate: float, context: Context) -> float:
        assert context.trial is not None
        looks.append(0)
        for look in range(1, 10):
            looks[-1] = look
            context.trial.report(look, float(len(looks)))  # each is worse than all before it
        return rate

    (home / "hyperband").mkdir(parents=True)
    work(study(home / "hyperband", pruning="hyperband"), fake(home / "hyperband", store, 12, run), show=False)
    early = list(looks)
    looks.clear()
    work(study(home / "none", pruning="none"), fake(home / "none", store, 3, run), show=False)

    assert early[0] == 9
    assert min(early) < 9
    assert looks == [9, 9, 9]


def test_an_interrupted_trial_goes_on_where_it_was(home: Path, store: Registry) -> None:
    homes, rates = [], []

    def run(rate: float, context: Context) -> float:
        homes.append(context.home)
        rates.append(rate)
        context.home.mkdir(parents=True, exist_ok=True)
        if len(rates) == 2:
            raise KeyboardInterrupt
        return rate

    with pytest.raises(KeyboardInterrupt):
        work(study(home), fake(home, store, 3, run), show=False)
    assert homes[1].exists()
    work(study(home), fake(home, store, 3, run), show=False)

    assert len(finished(study(home))) == 3
    assert (rates[2], homes[2]) == (rates[1], homes[1])
    assert not homes[1].exists()


def test_the_same_search_makes_the_same_trials_whether_or_not_it_was_stopped(home: Path, store: Registry) -> None:
    def rates(at: Path, *most: int) -> list[float]:
        for number in most:
            work(study(at), fake(at, store, number, lambda rate, _: (rate - 0.3) ** 2), show=False)
        return [trial.params["optimizer.learning_rate"] for trial in finished(study(at))]

    (home / "whole").mkdir(parents=True)
    (home / "parts").mkdir()

    assert rates(home / "whole", 12) == rates(home / "parts", 5, 12)


def test_a_trial_that_is_worse_than_others_at_the_same_point_ends_early(home: Path, store: Registry) -> None:
    checks: list[int] = []

    def run(rate: float, context: Context) -> float:
        assert context.trial is not None
        bad = len(checks) >= 6
        checks.append(0)
        for check in range(1, 10):
            context.trial.report(check, 5.0 if bad else 1.0)
            checks[-1] = check
        return rate

    work(study(home), fake(home, store, 7, run), show=False)

    assert checks == [9, 9, 9, 9, 9, 9, 2]
    assert finished(study(home))[6].state == TrialState.PRUNED


def test_trials_that_fail_count_as_bad_ones_and_say_why(home: Path, store: Registry) -> None:
    def run(rate: float, _: Context) -> float:
        if rate > 0.5:
            raise RecipeError("the loss is no longer a number")
        return rate

    trials = fake(home, store, 8, run)
    work(study(home), trials, show=False)

    failed = [trial for trial in finished(study(home)) if ERROR in trial.user_attrs]
    assert failed
    assert all(trial.params["optimizer.learning_rate"] > 0.5 for trial in failed)
    assert "the loss is no longer a number" in {trial.user_attrs[ERROR] for trial in failed}


def test_a_recipe_of_which_every_trial_fails_is_one_line(home: Path, store: Registry) -> None:
    def run(rate: float, _: Context) -> float:
        raise RecipeError("adapter.targets: none of these")

    with pytest.raises(RecipeError, match=r"all of the first 3 trials failed, the last one: adapter\.targets: none"):
        work(study(home), fake(home, store, 20, run), show=False)
    with pytest.raises(TrainingError, match="none of 3 trials finished"):
        conclude(study(home), fake(home, store, 3, run))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("studies.db", "is not a database URL"),
        ("sqlite:////nowhere/at/all/studies.db", "cannot be used: unable to open database file"),
        ("mysql://me:secret@host/db", "cannot be used"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line_without_its_secrets(url: str, why: str) -> None:
    with pytest.raises(TrainingError, match=rf"^--store: {why}[^\n]*$") as raised:
        open_store(url)

    assert "secret" not in str(raised.value)


def test_a_store_that_fails_in_the_middle_is_one_line(home: Path, store: Registry) -> None:
    mine = study(home)

    def run(rate: float, _: Context) -> float:
        with STORES[-1].engine.begin() as connection:
            connection.execute(text("DROP TABLE trial_values"))
        return rate

    with (
        pytest.raises(TrainingError, match=r"^--store: failed: [^\n]*trial_values; run the command again"),
        closing(STORES[-1]),
    ):
        work(mine, fake(home, store, 2, run), show=False)
