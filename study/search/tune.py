"""The run of a study's trials: Tune around the searcher."""

import shutil
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayActorError

from moe.config import Config
from study.search.controller import reusing_workers
from study.search.ray_cluster import connected
from study.search.searcher import StudySearch
from study.search.trial import Job
from study.search.worker import evaluate, refer


class _Hooks(tune.Stopper, tune.Callback):  # type: ignore[misc]
    """Tune's stopper and callback: when all trials stop, and why one ended that reported nothing itself."""

    def __init__(self, searcher: StudySearch) -> None:
        self._searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its parts to restore them one day; a study is never restored that way

    def stop_all(self) -> bool:
        """Whether running trials are to stop."""
        return self._searcher.stop.now()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped because of what it reports."""
        return False

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Called after the searcher's `on_trial_complete`; of a dead worker there is no more to record."""
        error = trial.get_pickled_error()
        if error is not None and not isinstance(error, RayActorError):
            self._searcher.explain(trial.trial_id, error)


def search(searcher: StudySearch, job: Job, address: str, scratch: Path) -> None:
    """Run trials until there are enough, too many have failed, or a stop.

    Args:
        searcher: proposes the trials and records how they end.
        job: sent to every worker.
        address: of Ray.
        scratch: an absolute folder for Tune, on storage that every node sees; removed at the end.

    Raises:
        ClusterError: the cluster cannot be reached.
    """
    resources = job.resources
    shutil.rmtree(scratch, ignore_errors=True)
    with connected(address, resources):

        def trainable(params: dict[str, Any]) -> None:  # all that Ray sees
            run = refer if params.get("reference") else evaluate
            run(job, Config(**params["config"]), tune.report)

        hooks = _Hooks(searcher)
        allotment = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
        tuner = tune.Tuner(
            tune.with_resources(
                trainable, tune.PlacementGroupFactory([allotment], bundle_label_selector=[resources.labels])
            ),
            tune_config=tune.TuneConfig(
                search_alg=searcher, num_samples=-1, max_concurrent_trials=resources.concurrency, reuse_actors=True
            ),
            run_config=tune.RunConfig(name="tune", storage_path=str(scratch), stop=hooks, callbacks=[hooks], verbose=0),
        )
        try:
            with reusing_workers():
                tuner.fit()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
