"""The search algorithm that Tune calls: an Optuna study or a grid proposes points; the ledger makes trials of them."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from moe.config import Config
from moe.result import Result
from moe.schema import decode, fields
from study.search.ledger import MOST_TRIES, Ledger, Verdict
from study.search.loggers import Loggers
from study.search.progress import Progress
from study.search.samplers import distributions, grid_order, make
from study.search.stopping import Stop
from study.search.trial import EpochReport, Row
from study.study import COMPLETE, FAILED, LOST, NOT_RUN, RUNNING, SEARCH, STALLED, Record, Reference

MAX_REPEATS = 5  # times that a sampler may propose a point that was tried, before the trial becomes a replicate
RAY_ENDS_S = 2.0  # a raylet ends its workers before itself, as when an agent of it has died


class StudySearch(Searcher):  # type: ignore[misc]
    """Proposes the trials of a study to Tune, and records how they end.

    If a proposed point was tried, Optuna gets its mean objective and proposes another one. If it proposes tried points
    again and again, or every point is tried, the trial is a replicate: the same config with the next seed.
    """

    def __init__(
        self,
        ledger: Ledger,
        progress: Progress,
        stop: Stop,
        concurrency: int,
        references: Iterable[Config] = (),
        loggers: Loggers | None = None,
    ) -> None:
        study = ledger.study
        super().__init__(metric=study.objective, mode="max")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._order = grid_order(study.space, study.seed) if study.sampler == "grid" else []  # else Optuna proposes
        sampler = None if self._order else make(study.sampler, study.seed, len(ledger.records))
        self.optuna_study = optuna.create_study(sampler=sampler, direction="maximize")
        self.ledger, self.stop = ledger, stop
        self._progress, self._concurrency = progress, concurrency
        self._loggers = loggers or Loggers({}, progress.warned)
        self._distributions = distributions(study.space)
        self._running: dict[str, tuple[int, optuna.Trial | None]] = {}  # by Tune's id: our number, Optuna's proposal
        self._lost: dict[str, int] = {}  # trials that ended without a report
        self._references = list(references)  # configs whose baselines are trained first
        self._referring: dict[str, Config] = {}  # by Tune's id, those that run
        self._lost_references: Counter[Config] = Counter()  # how often each lost its worker
        if not self._order:
            self._add_earlier_trials()

    def _add_earlier_trials(self) -> None:
        """Give Optuna the trials of earlier runs; the notebook's default comes first, unless it was tried."""
        ledger = self.ledger
        for record in [*ledger.of(COMPLETE), *ledger.of(FAILED)]:
            if record.phase == SEARCH and not record.repeatable:
                self._add(record)
        for record in ledger.interrupted:
            self.optuna_study.enqueue_trial(ledger.point(record))
        lost = {record.config: record for record in ledger.of(FAILED) if record.phase == SEARCH and record.repeatable}
        for record in lost.values():
            if not self._worth_repeating(record):
                self._add(record)
            elif ledger.next_replicate(ledger.point(record)) == record.replicate:  # else it was repeated
                self.optuna_study.enqueue_trial(ledger.point(record))
        default = ledger.study.space.default
        if default not in map(ledger.point, ledger.records.values()):
            self.optuna_study.enqueue_trial(default)

    def _worth_repeating(self, record: Record) -> bool:
        """Whether a trial is to be tried again, so that a study has the same trials as one that lost none."""
        if not record.repeatable:
            return False
        others = self.ledger.records.values()
        return sum(each.repeatable and each.config == record.config for each in others) < MOST_TRIES

    def _add(self, record: Record) -> None:
        """Give Optuna a trial that it did not propose."""
        value, point = self.ledger.value(record), self.ledger.point(record)
        self.optuna_study.add_trial(
            optuna.create_trial(state=_state(value), value=value, params=point, distributions=self._distributions)
        )

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """How many run at once is limited here: Tune's limiter would lose trials that were retried.

        Tune reads the same number to decide how many trials may wait for a worker.
        """
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study resumes from its records."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial, None for "not now", or that the search has ended."""
        if self.stop.launching_is_over(self.ledger):
            self.ledger.closed = True
        busy = len(self._running) + len(self._referring) >= self._concurrency
        if self._references and not self.ledger.closed:
            return None if busy else self._next_reference(trial_id)
        verdict = self.ledger.verdict()
        if verdict is Verdict.STOP and not self._referring:  # a reference may have to be trained again
            return Searcher.FINISHED  # type: ignore[no-any-return]
        if verdict is not Verdict.LAUNCH or busy or (self._referring and self.ledger.study.objective == "fair_gain"):
            return None
        proposal, record = self._next()
        self._running[trial_id] = record.trial, proposal
        self._progress.started(record)
        self._loggers.started(record)
        return {"trial": record.trial, "config": record.config.as_json()}

    def _next_reference(self, trial_id: str) -> dict[str, Any]:
        config = self._referring[trial_id] = self._references.pop(0)
        self._progress.referring(len(self._references) + len(self._referring))
        return {"reference": True, "config": config.as_json()}

    def _next(self) -> tuple[optuna.Trial | None, Record]:
        ledger = self.ledger
        if record := ledger.next_planned():
            return None, record
        if self._order:
            left = ledger.interrupted
            return None, ledger.restart(left[0]) if left else ledger.start(ledger.next_of_grid(self._order))
        proposal = self.optuna_study.ask(self._distributions)
        if ledger.interrupted:
            return proposal, ledger.restart(ledger.interrupted[0])
        for _ in range(MAX_REPEATS):
            if not ledger.tried(proposal.params) or ledger.exhausted():
                break
            self._tell(proposal, ledger.mean_objective(proposal.params))
            proposal = self.optuna_study.ask(self._distributions)
        return proposal, ledger.start(proposal.params)

    def _tell(self, proposal: optuna.Trial, value: float | None) -> None:
        self.optuna_study.tell(proposal, value, _state(value))

    def on_trial_result(self, trial_id: str, result: Row) -> None:
        """Pass a trial's progress on; record its end at once, because the driver may be killed next."""
        for sentence in result.get("warnings", ()):
            self._progress.warned(sentence)
        if trial_id not in self._running:
            config = self._referring.pop(trial_id)
            if "accuracy" in result:
                reference = Reference(config=config, accuracy=result["accuracy"])
                self.ledger.refer(reference)
                self._progress.referred(reference)
            else:
                self._progress.warned(f"a reference is left out: {result['error']}")
            return
        number, _ = self._running[trial_id]
        if self.ledger.records[number].state != RUNNING:
            return  # too late: it has failed as stalled
        if "result" in result:
            self.ledger.complete(number, decode(Result, result["result"]))
        elif "error" in result:
            self.ledger.fail(number, result["error"], result["traceback"])
        elif "stage" in result:
            report = EpochReport(**{name: result[name] for name in fields(EpochReport)})
            self._progress.progressed(number, report)
            self._loggers.progressed(number, report)

    def on_trial_complete(self, trial_id: str, result: Row | None = None, error: bool = False) -> None:
        """Tell Optuna how a trial ended; one that was stopped stays as it is, for a resume."""
        if trial_id not in self._running:
            if (config := self._referring.pop(trial_id, None)) and error:
                self._lose_reference(config)
            self._progress.referring(len(self._references) + len(self._referring))
            return
        number, proposal = self._running.pop(trial_id)
        unreported = error and self.ledger.records[number].state == RUNNING
        if unreported and not self.stop.now() and not self.stop.ray_is_gone(within_s=RAY_ENDS_S):
            self.ledger.fail(number, LOST)
            self._lost[trial_id] = number
        record = self.ledger.records[number]
        if record.state == RUNNING:
            return
        if proposal:
            if self._worth_repeating(record):
                self.optuna_study.enqueue_trial(self.ledger.point(record))
            self._tell(proposal, self.ledger.value(record))
        elif not self._order and record.phase == SEARCH and not record.repeatable:
            self._add(record)
        self._progress.ended(record)
        self._loggers.ended(record)

    def _lose_reference(self, config: Config) -> None:
        """Train a reference again whose worker was lost, unless that happens time and again."""
        if self.stop.now() or self.stop.ray_is_gone(within_s=RAY_ENDS_S):
            return  # a resume trains it
        self._lost_references[config] += 1
        if self._lost_references[config] < MOST_TRIES:
            self._references.append(config)
        else:
            self._progress.warned(f"a reference is left out: {LOST}")

    @property
    def over(self) -> bool:
        """Whether no trial runs, and none will."""
        return not (self._running or self._references or self._referring) and self.ledger.verdict() is Verdict.STOP

    def fail_stalled(self, trial_id: str, minutes: float) -> None:
        """Record that a trial's worker has reported nothing for so long; it may be stopped, or its storage."""
        if trial_id in self._running and self.ledger.records[number := self._running[trial_id][0]].state == RUNNING:
            self.ledger.fail(number, f"{STALLED} {minutes:g} minutes: stopped, or waiting for its storage")

    def explain(self, trial_id: str, error: Exception) -> None:
        """Record why Tune could not run a trial that reported nothing itself."""
        if (number := self._lost.pop(trial_id, None)) is not None:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.ledger.fail(number, f"{NOT_RUN} {reason}")


def _state(value: float | None) -> TrialState:
    return TrialState.FAIL if value is None else TrialState.COMPLETE
