"""The run of a study's trials: Tune around the searcher."""

import shutil
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from ray.exceptions import RayActorError

from study.search.controller import patient
from study.search.ledger import Ledger
from study.search.ray_cluster import check_cluster, connected
from study.search.resources import Resources
from study.search.searcher import Display, StudySearch
from study.search.stopping import Stop, heed
from study.search.trial import Job, evaluate


class _Unread:
    """Tune pickles what it is given, to restore it one day; a study is never restored that way."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Stopper(_Unread, tune.Stopper):  # type: ignore[misc]
    """A `Stop` as Tune asks for it."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def stop_all(self) -> bool:
        """Whether running trials are to stop."""
        return self._stop.now()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped for what it reports."""
        return False


class _Reasons(_Unread, tune.Callback):  # type: ignore[misc]
    """Passes on why a trial ended that reported nothing itself."""

    def __init__(self, searcher: StudySearch) -> None:
        self._searcher = searcher

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Called after the searcher heard that the trial ended; a dead worker is all that it needs to know."""
        error = trial.get_pickled_error()
        if error is not None and not isinstance(error, RayActorError):
            self._searcher.explain(trial.trial_id, error)


def search(
    ledger: Ledger, job: Job, resources: Resources, address: str, stop: Stop, display: Display, scratch: Path
) -> None:
    """Run trials until the ledger has enough, too many have failed, or `stop` says so.

    Args:
        scratch: an absolute folder for Tune, on storage that every node sees; removed at the end.

    Raises:
        ClusterError: the cluster cannot be reached, or can never run such a trial.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    shutil.rmtree(scratch, ignore_errors=True)
    with connected(address, resources):
        heed(stop)
        check_cluster(resources)
        searcher = StudySearch(ledger, display, stop, resources.concurrency)

        def trainable(params: dict[str, Any]) -> None:  # all that Ray sees
            evaluate(job, params["config"], tune.report)

        allotment = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
        tuner = tune.Tuner(
            tune.with_resources(trainable, tune.PlacementGroupFactory([allotment])),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                max_concurrent_trials=resources.concurrency,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune", storage_path=str(scratch), stop=_Stopper(stop), callbacks=[_Reasons(searcher)], verbose=0
            ),
        )
        try:
            with patient():
                tuner.fit()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
