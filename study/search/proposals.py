"""What proposes the next point of a search: an Optuna study, or the order of a grid. The ledger makes a trial of it."""

from typing import Protocol

import optuna
from optuna.trial import TrialState

from study.search.ledger import MOST_TRIES, Ledger
from study.search.samplers import distributions, grid_order, make
from study.study import COMPLETE, FAILED, SEARCH, Record, Study

MAX_REPEATS = 5  # times that a sampler may propose a point that was tried, before the trial becomes a replicate


class Proposals(Protocol):
    """Proposes the trials of a search, one after another."""

    def start(self, ledger: Ledger) -> Record:
        """Start the next trial of the search, or one again that an earlier run did not end."""

    def ended(self, ledger: Ledger, record: Record) -> None:
        """Learn how a trial ended, whoever proposed it."""


def proposals(ledger: Ledger) -> Proposals:
    """Those of the study's sampler."""
    return GridProposals(ledger.study) if ledger.study.sampler == "grid" else OptunaProposals(ledger)


class GridProposals:
    """Every point of the space, again and again."""

    def __init__(self, study: Study) -> None:
        self._order = grid_order(study.space, study.seed)

    def start(self, ledger: Ledger) -> Record:
        """Of the points with the fewest trials the next one."""
        if left := ledger.interrupted:
            return ledger.restart(left[0])
        return ledger.start(ledger.next_of_grid(self._order))

    def ended(self, ledger: Ledger, record: Record) -> None:
        """Nothing: the ledger counts the trials of each point."""


class OptunaProposals:
    """What a sampler of Optuna proposes, which learns the objective of each trial of the search.

    If a proposed point was tried, Optuna gets its mean objective and proposes another one. If it proposes tried points
    again and again, or every point is tried, the trial is a replicate: the same config with the next seed.
    """

    def __init__(self, ledger: Ledger) -> None:
        study = ledger.study
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = make(study.sampler, study.seed, len(ledger.records))
        self.study = optuna.create_study(sampler=sampler, direction="maximize")
        self._distributions = distributions(study.space)
        self._running: dict[int, optuna.Trial] = {}  # by our number
        self._add_earlier_trials(ledger)

    def _add_earlier_trials(self, ledger: Ledger) -> None:
        """Give Optuna the trials of earlier runs; the notebook's default comes first, unless it was tried."""
        for record in [*ledger.of(COMPLETE), *ledger.of(FAILED)]:
            if record.phase == SEARCH and not record.repeatable:
                self._add(ledger, record)
        for record in ledger.interrupted:
            self.study.enqueue_trial(ledger.point(record))
        lost = {record.config: record for record in ledger.of(FAILED) if record.phase == SEARCH and record.repeatable}
        for record in lost.values():
            if not _worth_repeating(ledger, record):
                self._add(ledger, record)
            elif ledger.next_replicate(ledger.point(record)) == record.replicate:  # else it was repeated
                self.study.enqueue_trial(ledger.point(record))
        default = ledger.study.space.default
        if default not in map(ledger.point, ledger.records.values()):
            self.study.enqueue_trial(default)

    def _add(self, ledger: Ledger, record: Record) -> None:
        """Give Optuna a trial that it did not propose."""
        value, point = ledger.value(record), ledger.point(record)
        self.study.add_trial(
            optuna.create_trial(state=_state(value), value=value, params=point, distributions=self._distributions)
        )

    def start(self, ledger: Ledger) -> Record:
        """Start what Optuna proposes."""
        proposal = self.study.ask(self._distributions)
        if left := ledger.interrupted:  # its point was enqueued
            record = ledger.restart(left[0])
        else:
            for _ in range(MAX_REPEATS):
                if not ledger.tried(proposal.params) or ledger.exhausted():
                    break
                self._tell(proposal, ledger.mean_objective(proposal.params))
                proposal = self.study.ask(self._distributions)
            record = ledger.start(proposal.params)
        self._running[record.trial] = proposal
        return record

    def ended(self, ledger: Ledger, record: Record) -> None:
        """Tell Optuna, which proposes a point again whose worker was lost."""
        if proposal := self._running.pop(record.trial, None):
            if _worth_repeating(ledger, record):
                self.study.enqueue_trial(ledger.point(record))
            self._tell(proposal, ledger.value(record))
        elif record.phase == SEARCH and not record.repeatable:
            self._add(ledger, record)

    def _tell(self, proposal: optuna.Trial, value: float | None) -> None:
        self.study.tell(proposal, value, _state(value))


def _worth_repeating(ledger: Ledger, record: Record) -> bool:
    """Whether a trial is to be tried again, so that a study has the same trials as one that lost none."""
    if not record.repeatable:
        return False
    others = ledger.records.values()
    return sum(each.repeatable and each.config == record.config for each in others) < MOST_TRIES


def _state(value: float | None) -> TrialState:
    return TrialState.FAIL if value is None else TrialState.COMPLETE
