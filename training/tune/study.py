"""The search: trials until there are as many as asked for, beside other workers on the same store."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from training.data.files import sha256_of
from training.data.sets import paths_in
from training.data.sources import files_of
from training.disk import causes
from training.errors import RecipeError, TrainingError
from training.methods.trial_validation import CHECKS
from training.outcome import Context
from training.progress import track
from training.recipes.sections import GradientRecipe
from training.registry.manifest import canonical_json
from training.tune.trials import ERROR, TrialLimitReached, Trials, queue_again

Pruning = Literal["median", "hyperband", "none"]

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
# A worker says so often that it lives; one that was silent for as long as the second is taken for dead.
_HEARTBEAT_SECONDS, _SILENCE_SECONDS = 10, 60
_POLL_SECONDS = 0.5
# So many trials that failed, and none that did not: it is the recipe.
_FAILURES = 3


class TrialSeededTpe(BaseSampler):
    """TPE whose draws follow from the seed and the trial's number.

    A search that is interrupted goes on to the same trials, and workers that start together do not draw the same ones.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial, "").infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial, "").sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        # Of one seed for all settings, the first trials would lie on a diagonal.
        return self._of(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    def _of(self, trial: FrozenTrial, name: str) -> TPESampler:
        digest = hashlib.blake2b(repr((self._seed, trial.number, name)).encode(), digest_size=4).digest()
        return TPESampler(seed=int.from_bytes(digest, "big"))


def study_name(recipe: GradientRecipe, context: Context) -> str:
    """Of a search: another recipe, search or data is another one."""
    paths = [path for path in map(context.path, paths_in(recipe)) if path.exists()]
    digests = [sha256_of(file) for path in paths for file in files_of(path)]
    content = canonical_json([recipe.model_dump(mode="json"), digests])
    return f"{recipe.name}-{hashlib.sha256(content).hexdigest()[:12]}"


def open_store(url: str) -> RDBStorage:
    """The store that workers share; raises TrainingError, without the URL, which may hold a password."""
    if url.startswith(("postgresql://", "postgres://")):
        url = "postgresql+psycopg://" + url.partition("://")[2]
    # Several workers write to one file: wait for each other for a while.
    waiting = {"connect_args": {"timeout": 60}} if url.startswith("sqlite:") else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return RDBStorage(
                url,
                engine_kwargs=waiting,
                heartbeat_interval=_HEARTBEAT_SECONDS,
                grace_period=_SILENCE_SECONDS,
                heartbeat_stale_trial_callback=queue_again,
            )
    except ArgumentError:
        raise TrainingError("--store: is not a database URL: sqlite:///FILE or postgresql://HOST/NAME") from None
    except (SQLAlchemyError, ImportError, RuntimeError) as error:
        why = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise TrainingError(f"--store: cannot be used: {why}") from None


@contextmanager
def closing(store: RDBStorage) -> Iterator[None]:
    """Close a store's connections after the block; a store that fails meanwhile is a TrainingError."""
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:
        # Optuna wraps the database's error, or fails over it with one of its own.
        told = next((each for each in causes(error) if isinstance(each, SQLAlchemyError)), None)
        if told is None:
            raise
        why = str(getattr(told, "orig", None) or told).splitlines()[0]
        raise TrainingError(f"--store: failed: {why}; run the command again to go on") from None
    finally:
        store.engine.dispose()


def open_study(
    store: RDBStorage, name: str, direction: Literal["minimize", "maximize"], seed: int, pruning: Pruning
) -> optuna.Study:
    """The search of that name, begun or gone on with."""
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # ours shows the trials
    return optuna.create_study(
        storage=store,
        study_name=name,
        direction=direction,
        sampler=TrialSeededTpe(seed),
        pruner=_pruner(pruning),
        load_if_exists=True,
    )


def _pruner(pruning: Pruning) -> BasePruner:
    if pruning == "median":
        # The first checks come while the learning rate still rises.
        return MedianPruner(n_startup_trials=5, n_warmup_steps=3)
    if pruning == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=CHECKS)
    return NopPruner()


def work(study: optuna.Study, trials: Trials, show: bool) -> None:
    """Run trials until `trials.most` are finished, by whomever; waits for those of other workers."""
    with track(f"Tuning {trials.recipe.name}", show) as progress:
        while len(done := finished(study)) < trials.most:
            progress(len(done), trials.most, _best_so_far(done, study.direction))
            _require_hope(done, trials.context.recipe_path)
            going_on = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if len(done) + len(going_on) < trials.most:
                _run_one(study, trials)
                continue
            time.sleep(_POLL_SECONDS)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                optuna.storages.fail_stale_trials(study)
        progress(len(done), trials.most, _best_so_far(done, study.direction))


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that count."""
    return study.get_trials(deepcopy=False, states=FINISHED)


def _run_one(study: optuna.Study, trials: Trials) -> None:
    before = {trial.number for trial in study.get_trials(deepcopy=False)}
    try:
        study.optimize(trials, n_trials=1, catch=(TrialLimitReached,))
    except KeyboardInterrupt:
        # Interrupted, not bad: the next worker goes on with it.
        for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
            if trial.number not in before:
                queue_again(study, trial)
        raise


def _require_hope(done: list[FrozenTrial], path: Path) -> None:
    errors = [trial.user_attrs[ERROR] for trial in done if ERROR in trial.user_attrs]
    if len(errors) >= _FAILURES and len(errors) == len(done):
        raise RecipeError(f"{path}: all of the first {len(errors)} trials failed, the last one: {errors[-1]}")


def _best_so_far(done: list[FrozenTrial], direction: optuna.study.StudyDirection) -> str:
    values = [trial.value for trial in done if trial.value is not None and trial.state == TrialState.COMPLETE]
    best = min if direction == optuna.study.StudyDirection.MINIMIZE else max
    return f"best {best(values):.4g}" if values else ""
