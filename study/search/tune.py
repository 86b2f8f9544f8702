"""The run of a study's trials: Tune around the searcher."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError

from moe.config import Config
from study.search.controller import MAX_WAIT_S, reusing_workers
from study.search.ray_cluster import connected
from study.search.searcher import StudySearch
from study.search.trial import Job, Row
from study.search.watch import Clock, watched
from study.search.worker import evaluate, refer


class _Hooks(tune.Stopper, tune.Callback):  # type: ignore[misc]
    """Tune's stopper and callback: when all trials stop, and why one ended that reported nothing itself."""

    def __init__(self, searcher: StudySearch, stall_s: float, private: bool) -> None:
        self._searcher, self._stall_s, self._private = searcher, stall_s, private
        self._clock = Clock()
        self._live: dict[Any, tuple[str, float]] = {}  # status of each trial, and since when, or since its last report
        self._seen = 0  # trials

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its parts to restore them one day; a study is never restored that way

    def stop_all(self) -> bool:
        """Whether running trials are to stop."""
        return self._searcher.stop.now()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped because of what it reports."""
        return False

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Row, **info: Any) -> None:
        """A trial has reported."""
        self._live[trial] = trial.status, self._clock.now

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """End what has been silent for too long."""
        now = self._clock.read()
        self._live |= dict.fromkeys(trials[self._seen :], ("", now))
        self._seen = len(trials)
        for trial, (status, since) in [*self._live.items()]:
            limit = self._stall_s + (0.0 if trial.temporary_state.ray_actor else MAX_WAIT_S)
            if trial.is_finished():
                del self._live[trial]
            elif trial.status != status or now - since > limit:
                self._live[trial] = trial.status, now
                if trial.status == status:
                    self._end_stalled(trial, limit / 60)

    def _end_stalled(self, trial: Any, minutes: float) -> None:
        """Fail a trial with its worker; or end the study if its worker does not start, though no other runs."""
        if worker := trial.temporary_state.ray_actor:
            self._searcher.fail_stalled(trial.trial_id, minutes)
            ray.kill(worker)
        elif self._private and not any(other.temporary_state.ray_actor for other in self._live):
            self._searcher.stop.lose(f"no worker has started for {minutes:g} minutes")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Called after the searcher's `on_trial_complete`; of a dead worker there is no more to record."""
        error = trial.get_pickled_error()
        if error is not None and not isinstance(error, RayActorError):
            self._searcher.explain(trial.trial_id, error)


def search(searcher: StudySearch, job: Job, address: str, scratch: Path, stall_s: float) -> None:
    """Run trials until there are enough, too many have failed, or a stop.

    Args:
        searcher: proposes the trials and records how they end.
        job: sent to every worker.
        address: of Ray.
        scratch: an absolute folder for Tune, on storage that every node sees; removed at the end.
        stall_s: seconds without a report after which a trial has failed.

    Raises:
        ClusterError: the cluster cannot be reached.
    """
    resources, private = job.resources, address == "local"
    _remove(scratch)
    with connected(address, resources), watched(searcher.stop, private):

        def trainable(params: dict[str, Any]) -> None:  # all that Ray sees
            run = refer if params.get("reference") else evaluate
            run(job, Config(**params["config"]), tune.report)

        def bundles(params: dict[str, Any]) -> tune.PlacementGroupFactory:
            own = resources.of(Config(**params["config"]))
            allotment = {"CPU": own.cpus_per_trial, "GPU": own.gpus_per_trial}
            return tune.PlacementGroupFactory([allotment], bundle_label_selector=[resources.labels])

        hooks = _Hooks(searcher, stall_s, private)
        tuner = tune.Tuner(
            tune.with_resources(trainable, bundles),
            tune_config=tune.TuneConfig(
                search_alg=searcher, num_samples=-1, max_concurrent_trials=resources.concurrency, reuse_actors=True
            ),
            run_config=tune.RunConfig(name="tune", storage_path=str(scratch), stop=hooks, callbacks=[hooks], verbose=0),
        )
        try:
            with reusing_workers():
                tuner.fit()
        except Exception:
            stop = searcher.stop
            if not (searcher.over or stop.now() or stop.ray_is_gone()):  # else nothing more is wanted of Tune
                raise
        finally:
            _remove(scratch)


def _remove(scratch: Path) -> None:
    """Remove Tune's folder, or what stands in its place; a link, not what it leads to."""
    with suppress(OSError):
        scratch.unlink()
    shutil.rmtree(scratch, ignore_errors=True)
