"""Tune's controller, changed so that a trial whose worker is starting waits for it, though not forever.

When a trial ends, Tune gives its worker to a trial whose own worker is still starting, stops that one once it is up,
and starts yet another for the next trial. Trials that are shorter than the start of a worker, such as those whose
stages are all stored, then cost a worker each: 10 workers for 10 such trials, two at a time, instead of 2, and 36 to
50 ms a trial instead of 9 (`python -m tests.benchmarks.overhead --trials 10 --concurrency 2`, Ray 2.60).

This overrides private parts of Tune, because no public one decides which worker a trial gets. It depends on
    TuneController._maybe_reuse_cached_actor    the one place where a waiting trial takes a free worker
    TuneController._trial_to_actor              the worker that a trial waits for
    TuneController._resetting_trials            trials that have taken a free worker already
    TuneController._actor_manager               knows whether a worker has its resources
and on `ray.tune.tune` looking up TuneController when `Tuner.fit` is called, because Tuner takes none as an argument.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import ray.tune.tune
from ray.tune.execution.tune_controller import TuneController

MAX_WAIT_S = 300.0  # a worker that takes longer may never come up: Ray tries again and again where none can start


class WaitingController(TuneController):  # type: ignore[misc]
    """Gives a free worker to a trial that has none, or whose own still waits for resources or takes too long."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._waiting_since: dict[Any, float] = {}  # by the worker that a trial waits for

    def _maybe_reuse_cached_actor(self, trial: Any) -> bool:
        own = self._trial_to_actor.get(trial)
        # Ray calls an actor started once it has its resources; one that is being reset was free, and is the trial's
        if own and trial not in self._resetting_trials and self._actor_manager.is_actor_started(own):
            since = self._waiting_since.setdefault(own, monotonic())
            if monotonic() - since < MAX_WAIT_S:
                return False
        return bool(super()._maybe_reuse_cached_actor(trial))


@contextmanager
def reusing_workers() -> Iterator[None]:
    """While this lasts, `Tuner.fit` uses such a controller."""
    ray.tune.tune.TuneController = WaitingController
    try:
        yield
    finally:
        ray.tune.tune.TuneController = TuneController
