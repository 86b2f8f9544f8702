"""Trials under Ray Tune: the searcher that proposes them, and the loop that runs them.

    Ledger <--> StudySearch (Optuna) --point, seed--> Tune --> worker: study.trial.evaluate
                     ^                                              |
                     +---------- progress, result or error ---------+

Tune's own records, restore and tables play no part: the ledger's records are the study.
"""

import json
import logging
import os
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import optuna

from study.ledger import Ledger, Point, Verdict
from study.machine import ClusterError
from study.options import Resources
from study.records import COMPLETE, FAILED, Record
from study.samplers import distributions, make
from study.trial import Job, evaluate

#: how Tune is to behave in this process; set before Ray is imported
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # no tables: the study has its own
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV or TensorBoard files beside our records
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # signals are ours
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # the objective exists in a trial's last row only
    "TUNE_FORCE_TRIAL_CLEANUP_S": "5",  # a trial that is told to stop in mid-epoch does not hold up the end
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own state is never read
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # they are in the records
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402
from ray.tune.search.optuna import OptunaSearch  # noqa: E402

INSISTENCE = 5  # times that a sampler may propose a known config before the trial becomes a replicate
LOST = "the worker ended without a word: killed, out of memory, or its node was lost"


class Display(Protocol):
    """What is told of a study as it goes."""

    def started(self, record: Record) -> None:
        """A trial was launched."""

    def progressed(self, number: int, stage: str, epoch: int, epochs: int) -> None:
        """A running trial has trained an epoch."""

    def ended(self, record: Record) -> None:
        """A trial is complete or failed."""


class StudySearch(OptunaSearch):  # type: ignore[misc]
    """Optuna's proposals, made into the trials of a study.

    A config that the study knows already is told its known mean and another one is asked for; where the sampler
    insists, or nothing new is left, the trial is a replicate: the same config with the next seed.
    """

    def __init__(self, ledger: Ledger, display: Display, stop: "Stop", concurrency: int) -> None:
        study = ledger.study
        recorded = len(ledger.records)
        super().__init__(
            space=distributions(study.space),
            metric=study.objective,
            mode="max",
            sampler=make(study.sampler, study.space, study.seed, study.trials, recorded),
        )
        if self._ot_study is None:  # the parent makes none where nothing is searched
            self._setup_study("max")
        self._ledger, self._display, self._stop, self._concurrency = ledger, display, stop, concurrency
        self._numbers: dict[str, int] = {}  # Tune's id of each running trial to its number here
        self._errors: dict[str, tuple[str, str | None]] = {}
        self._tell_what_is_known()

    def _tell_what_is_known(self) -> None:
        """Give Optuna the trials of earlier runs; a new study begins at the notebook's default."""
        ledger = self._ledger
        for record in ledger.of(COMPLETE):
            self._add(record, record.value(ledger.study.objective))
        for record in ledger.of(FAILED):
            self._add(record, None)
        for record in ledger.orphans:
            self._ot_study.enqueue_trial(ledger.point(record))
        if not ledger.records:
            self._ot_study.enqueue_trial(ledger.study.space.nearest({}))

    def _add(self, record: Record, value: float | None) -> None:
        state = optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE
        point = self._ledger.point(record)
        self._ot_study.add_trial(
            optuna.trial.create_trial(
                state=state, value=value, params=point, distributions=distributions(self._ledger.study.space)
            )
        )

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        """The space is the study's; Tune has none to give."""
        return False

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """How many run at once is kept here: Tune's limiter would lose trials that were retried."""
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study resumes from its records."""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial, None for "not now", or that the search has ended."""
        if self._stop.launching_is_over(self._ledger):
            self._ledger.closed = True
        verdict = self._ledger.verdict()
        if verdict is Verdict.STOP:
            return Searcher.FINISHED  # type: ignore[no-any-return]
        if verdict is Verdict.WAIT or len(self._numbers) >= self._concurrency:
            return None
        proposal, record = self._next()
        self._ot_trials[trial_id] = proposal
        self._numbers[trial_id] = record.trial
        self._display.started(record)
        return {"trial": record.trial, "config": record.config}

    def _next(self) -> tuple[optuna.Trial, Record]:
        ledger = self._ledger
        proposal, point = self._ask()
        if ledger.orphans:
            return proposal, ledger.restart(ledger.orphans[0])
        for _ in range(INSISTENCE):
            if not ledger.taken(point) or ledger.exhausted():
                break
            known = ledger.known(point)
            state = optuna.trial.TrialState.FAIL if known is None else optuna.trial.TrialState.COMPLETE
            self._ot_study.tell(proposal, known, state)
            proposal, point = self._ask()
        return proposal, ledger.start(point, ledger.next_replicate(point))

    def _ask(self) -> tuple[optuna.Trial, Point]:
        proposal = self._ot_study.ask(fixed_distributions=self._space)
        return proposal, proposal.params

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass a trial's progress on, and keep its error for its end."""
        number = self._numbers[trial_id]
        if "stage" in result:
            self._display.progressed(number, result["stage"], result["epoch"], result["epochs"])
        if "error" in result:
            self._errors[trial_id] = (result["error"], result["traceback"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Enter a trial's end; one that was stopped on the way stays as it is, for a resume."""
        number = self._numbers.pop(trial_id)
        proposal = self._ot_trials.pop(trial_id)
        found = (result or {}).get("result")
        if trial_id in self._errors or error:
            self._ledger.fail(number, *self._errors.pop(trial_id, (LOST, None)))
            self._ot_study.tell(proposal, state=optuna.trial.TrialState.FAIL)
        elif found is not None:
            self._ledger.complete(number, json.loads(found))
            self._ot_study.tell(proposal, self._ledger.records[number].value(self._ledger.study.objective))
        else:
            return
        self._display.ended(self._ledger.records[number])


@dataclass
class Stop(tune.Stopper):  # type: ignore[misc]
    """When a study ends before its time: on a signal, or when the hours it was given are over."""

    deadline: float | None = None  # of time.monotonic
    signalled: bool = False

    def launching_is_over(self, ledger: Ledger) -> bool:
        """Whether another trial would not end in time."""
        if self.signalled or self.deadline is None:
            return self.signalled
        seconds = [float(r.result["seconds"]) for r in ledger.of(COMPLETE) if r.result]
        return time.monotonic() + (sum(seconds) / len(seconds) if seconds else 0) > self.deadline

    def stop_all(self) -> bool:
        """Whether running trials are to stop too."""
        return self.signalled or (self.deadline is not None and time.monotonic() > self.deadline)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped for what it reports."""
        return False


def search(
    ledger: Ledger, job: Job, resources: Resources, address: str, stop: Stop, display: Display, scratch: Path
) -> None:
    """Run trials until the ledger has enough, too many have failed, or `stop` says so.

    Args:
        scratch: an absolute folder for Tune, on storage that every node sees; removed at the end.

    Raises:
        ClusterError: the cluster cannot be reached, or can never run such a trial.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    with _ray(address, resources), _signals(stop):
        _check_cluster(resources)
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
            run_config=tune.RunConfig(name="tune", storage_path=str(scratch), stop=stop, verbose=0),
        )
        try:
            tuner.fit()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def capacity(address: str) -> tuple[int, int]:
    """The CPUs and GPUs of a cluster that is running.

    Raises:
        ClusterError: it cannot be reached.
    """
    with _ray(address, None):
        total = ray.cluster_resources()
        return int(total.get("CPU", 0)), int(total.get("GPU", 0))


def _check_cluster(resources: Resources) -> None:
    """Some node must be able to hold one trial, or it would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
    if not any(all(node.get(kind, 0) >= amount for kind, amount in wanted.items()) for node in nodes):
        raise ClusterError(
            f"no node of the cluster has the {wanted['CPU']} CPUs and {wanted['GPU']:g} GPUs of one trial; "
            "lower --cpus-per-trial or --gpus-per-trial"
        )


@contextmanager
def _ray(address: str, resources: Resources | None) -> Iterator[None]:
    """Ray for as long as it is needed: a private one of this size on this machine, or a cluster's."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    size = _private(resources) if address == "local" and resources else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **size)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ClusterError(f"Ray at {address} does not answer: {' '.join(str(error).split())[:300]}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _private(resources: Resources) -> dict[str, Any]:
    """How a Ray of our own is started: as large as the study, without a dashboard, under a token of its own."""
    if "RAY_AUTH_MODE" not in os.environ:  # else Ray would keep a token, readable by all, in the home folder
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    return {
        "num_cpus": resources.cpus_per_trial * resources.concurrency,
        "num_gpus": _gpus_needed(resources),
        "include_dashboard": False,
        "object_store_memory": 100 * 2**20,
    }


def _gpus_needed(resources: Resources) -> int:
    per_trial = resources.gpus_per_trial
    if per_trial == 0:
        return 0
    if per_trial >= 1:
        return int(per_trial * resources.concurrency)
    return -(-resources.concurrency // int(1 / per_trial))


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """The first SIGINT or SIGTERM ends the study in order; a second one at once. After ray.init, which sets its own."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.signalled:
            os._exit(75)
        stop.signalled = True
        os.write(2, b"Stopping; a second signal ends it at once.\n")  # print is not safe in a handler

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
