"""Tune's controller with patience: a trial whose worker is starting waits for it, though not for ever.

When a trial ends, Tune gives its worker to a trial whose own worker is still starting, stops that one once it is up,
and starts yet another for the next trial. Trials that take less time than the start of a worker, as those do whose
stages are all stored, then cost a worker each: ten for ten such trials, two at a time, where two do.

No more workers start than trials run at once: Tune keeps so many trials waiting as `max_concurrent_trials` says.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import ray.tune.tune
from ray.tune.execution.tune_controller import TuneController

PATIENCE_S = 300.0  # a worker that takes longer may never come up: Ray tries again and again where none can start


class PatientController(TuneController):  # type: ignore[misc]
    """Gives a free worker to a trial that has none, or whose own still waits for resources or takes too long."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._awaited: dict[Any, float] = {}  # the workers that a trial waits for: since when

    def _maybe_reuse_cached_actor(self, trial: Any) -> bool:
        own = self._trial_to_actor.get(trial)
        # Ray calls an actor started once it has its resources; one that is being reset was free, and is the trial's
        if own and trial not in self._resetting_trials and self._actor_manager.is_actor_started(own):
            since = self._awaited.setdefault(own, monotonic())
            if monotonic() - since < PATIENCE_S:
                return False
        return bool(super()._maybe_reuse_cached_actor(trial))


@contextmanager
def patient() -> Iterator[None]:
    """While this lasts, `Tuner.fit` has such a controller; Tune takes none as an argument."""
    ray.tune.tune.TuneController = PatientController
    try:
        yield
    finally:
        ray.tune.tune.TuneController = TuneController
