"""Optuna's proposals, made into the trials of a study."""

from typing import Any, Protocol

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from moe.result import Result
from moe.schema import decode
from study.search.ledger import Ledger, Point, Verdict
from study.search.samplers import distributions, make
from study.search.stopping import Stop
from study.study import COMPLETE, FAILED, LOST, RUNNING, Record

INSISTENCE = 5  # times that a sampler may propose a known config before the trial becomes a replicate


class Display(Protocol):
    """What is told of a study as it goes."""

    def started(self, record: Record) -> None:
        """A trial was launched."""

    def progressed(self, number: int, stage: str, epoch: int, epochs: int) -> None:
        """A running trial has trained an epoch."""

    def warned(self, sentence: str) -> None:
        """A worker did without something."""

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
            sampler=make(study.sampler, study.space, study.seed, recorded),
        )
        if self._ot_study is None:  # the parent makes none where nothing is searched
            self._setup_study("max")
        self._ledger, self._display, self._stop, self._concurrency = ledger, display, stop, concurrency
        self._numbers: dict[str, int] = {}  # Tune's id of each running trial to its number here
        self._lost: dict[str, int] = {}  # trials of which no more is known yet than that they ended
        self._tell_what_is_known()

    def _tell_what_is_known(self) -> None:
        """Give Optuna the trials of earlier runs; the notebook's default comes first, if it is still to be tried."""
        ledger = self._ledger
        for record in ledger.of(COMPLETE):
            self._add(record, record.objective(ledger.study.objective))
        for record in ledger.of(FAILED):
            self._add(record, None)
        for record in ledger.orphans:
            self._ot_study.enqueue_trial(ledger.point(record))
        default = ledger.study.space.nearest({})
        if not ledger.taken(default):
            self._ot_study.enqueue_trial(default)

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
        """How many run at once is kept here: Tune's limiter would lose trials that were retried.

        Tune reads the same number to know how many trials may wait for a worker.
        """
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study resumes from its records."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

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
        return {"trial": record.trial, "config": record.config.as_json()}

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
        """Pass a trial's progress on; enter its end as soon as it is known, since a kill may be next."""
        number = self._numbers[trial_id]
        for sentence in result.get("warnings", ()):
            self._display.warned(sentence)
        if "stage" in result:
            self._display.progressed(number, result["stage"], result["epoch"], result["epochs"])
        elif "result" in result:
            self._ledger.complete(number, decode(Result, result["result"]))
        elif "error" in result:
            self._ledger.fail(number, result["error"], result["traceback"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how a trial ended; one that was stopped on the way stays as it is, for a resume."""
        number, proposal = self._numbers.pop(trial_id), self._ot_trials.pop(trial_id)
        if error and self._ledger.records[number].state == RUNNING and not self._stop.now():
            self._ledger.fail(number, LOST)
            self._lost[trial_id] = number
        record = self._ledger.records[number]
        if record.state == COMPLETE:
            self._ot_study.tell(proposal, record.objective(self._ledger.study.objective))
        elif record.state == FAILED:
            self._ot_study.tell(proposal, state=TrialState.FAIL)
        else:
            return
        self._display.ended(record)

    def explain(self, trial_id: str, error: Exception) -> None:
        """Enter why Tune could not run a trial that said nothing itself."""
        if (number := self._lost.pop(trial_id, None)) is not None:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self._ledger.fail(number, f"the trial could not be run: {reason}")
