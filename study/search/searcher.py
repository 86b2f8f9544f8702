"""Optuna's proposals, made into the trials of a study."""

import json
from typing import Any, Protocol

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from study.ledger import Ledger, Point, Verdict
from study.records import COMPLETE, FAILED, Record
from study.samplers import distributions, make
from study.search.stopping import Stop

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

    def __init__(self, ledger: Ledger, display: Display, stop: Stop, concurrency: int) -> None:
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
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
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
            state = TrialState.FAIL if known is None else TrialState.COMPLETE
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
            self._ot_study.tell(proposal, state=TrialState.FAIL)
        elif found is not None:
            self._ledger.complete(number, json.loads(found))
            self._ot_study.tell(proposal, self._ledger.records[number].value(self._ledger.study.objective))
        else:
            return
        self._display.ended(self._ledger.records[number])
