"""The search algorithm that Tune calls: it starts the trials of a study and records how they end."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ray.tune.search import Searcher

from moe.config import Config
from moe.result import Result
from moe.schema import decode, fields
from study.search.ledger import MOST_TRIES, Ledger, Verdict
from study.search.loggers import Loggers
from study.search.progress import Progress
from study.search.proposals import proposals
from study.search.stopping import Stop
from study.search.trial import EpochReport, Row
from study.study import LOST, NOT_RUN, RUNNING, STALLED, Reference

RAY_ENDS_S = 2.0  # a raylet ends its workers before itself, as when an agent of it has died


class StudySearch(Searcher):  # type: ignore[misc]
    """Gives the trials of a study to Tune, and records how they end."""

    def __init__(
        self,
        ledger: Ledger,
        progress: Progress,
        stop: Stop,
        concurrency: int,
        references: Iterable[Config] = (),
        loggers: Loggers | None = None,
    ) -> None:
        super().__init__(metric=ledger.study.objective, mode="max")
        self._proposals = proposals(ledger)
        self.ledger, self.stop = ledger, stop
        self._progress, self._concurrency = progress, concurrency
        self._loggers = loggers or Loggers({}, progress.warned)
        self._running: dict[str, int] = {}  # our number by Tune's id
        self._lost: dict[str, int] = {}  # trials that ended without a report
        self._references = list(references)  # configs whose baselines are trained first
        self._referring: dict[str, Config] = {}  # by Tune's id, those that run
        self._lost_references: Counter[Config] = Counter()  # how often each lost its worker

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
        record = self.ledger.next_planned() or self._proposals.start(self.ledger)
        self._running[trial_id] = record.trial
        self._progress.started(record)
        self._loggers.started(record)
        return {"trial": record.trial, "config": record.config.as_json()}

    def _next_reference(self, trial_id: str) -> dict[str, Any]:
        config = self._referring[trial_id] = self._references.pop(0)
        self._progress.referring(len(self._references) + len(self._referring))
        return {"reference": True, "config": config.as_json()}

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
        number = self._running[trial_id]
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
        """Announce how a trial ended; one that was stopped stays as it is, for a resume."""
        if trial_id not in self._running:
            if (config := self._referring.pop(trial_id, None)) and error:
                self._lose_reference(config)
            self._progress.referring(len(self._references) + len(self._referring))
            return
        number = self._running.pop(trial_id)
        unreported = error and self.ledger.records[number].state == RUNNING
        if unreported and not self.stop.now() and not self.stop.ray_is_gone(within_s=RAY_ENDS_S):
            self.ledger.fail(number, LOST)
            self._lost[trial_id] = number
        record = self.ledger.records[number]
        if record.state == RUNNING:
            return
        self._proposals.ended(self.ledger, record)
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
        if (number := self._running.get(trial_id)) and self.ledger.records[number].state == RUNNING:
            self.ledger.fail(number, f"{STALLED} {minutes:g} minutes: stopped, or waiting for its storage")

    def explain(self, trial_id: str, error: Exception) -> None:
        """Record why Tune could not run a trial that reported nothing itself."""
        if (number := self._lost.pop(trial_id, None)) is not None:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.ledger.fail(number, f"{NOT_RUN} {reason}")
