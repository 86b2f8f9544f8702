"""The trials of a running study, and what follows for the next one. Pure bookkeeping: no Ray, no files.

proposed point --ledger--> replicate and seed --> running --> complete or failed
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from enum import Enum

from moe.result import Result
from study.study import COMPLETE, FAILED, RUNNING, Record, State, Study, now

Point = dict[str, int]


class Verdict(Enum):
    """Whether a study should launch another trial."""

    LAUNCH = "launch"
    WAIT = "wait"  # those running may be enough
    STOP = "stop"


class Ledger:
    """All trials of a study: recorded before, running, and ended.

    Args:
        study: what is searched, and how many complete trials are wanted.
        records: of earlier runs of the study.
        save: called with each record that is new or has changed.
    """

    def __init__(self, study: Study, records: Iterable[Record], save: Callable[[Record], None]) -> None:
        self.study = study
        self.records = {record.trial: record for record in records}
        self.interrupted = [record for record in self.records.values() if record.state == RUNNING]  # by earlier runs
        self.best = max(self.of(COMPLETE), key=self._value, default=None)  # of the complete trials, by the objective
        self.closed = False  # no more launches: time is up, or a signal came
        self._save = save
        # a study asks for these at every step, so they are counted as they change
        self._before = Counter(record.state for record in self.records.values())
        self._here: dict[State, set[int]] = {state: set() for state in (RUNNING, COMPLETE, FAILED)}  # of this run
        self._seconds = sum(record.done.totals.seconds for record in self.of(COMPLETE))
        self._last = max(self.records, default=0)
        self._numbers_at: defaultdict[int, set[int]] = defaultdict(set)  # by the point's position
        for record in self.records.values():
            self._numbers_at[study.space.position(self.point(record))].add(record.trial)

    def of(self, state: str) -> list[Record]:
        """The records in a state."""
        return [record for record in self.records.values() if record.state == state]

    def ended(self, state: State) -> int:
        """How many trials are complete, or have failed, those of earlier runs included."""
        return self._before[state] + len(self._here[state])

    @property
    def mean_seconds(self) -> float:
        """Of the complete trials; 0 without any."""
        return self._seconds / max(1, self.ended(COMPLETE))

    @property
    def max_failures(self) -> int:
        """How many failed trials end the study: a fifth of those wanted, at least three."""
        return max(3, self.study.trials // 5)

    @property
    def too_many_failed(self) -> bool:
        """Whether too many trials failed in this run."""
        return len(self._here[FAILED]) >= self.max_failures

    def verdict(self) -> Verdict:
        """Whether to launch another trial now."""
        complete = self.ended(COMPLETE)
        if self.closed or self.too_many_failed or complete >= self.study.trials:
            return Verdict.STOP
        if complete + len(self._here[RUNNING]) >= self.study.trials:
            return Verdict.WAIT
        return Verdict.LAUNCH

    def start(self, point: Point) -> Record:
        """Add a new trial: the next replicate of a point."""
        replicate = self.next_replicate(point)
        self._last += 1
        config = self.study.config(point, replicate)
        return self._update(Record(trial=self._last, replicate=replicate, config=config, started=now()))

    def restart(self, record: Record) -> Record:
        """Start a trial again that an earlier run did not end, with its number and seed."""
        self.interrupted.remove(record)
        return self._update(Record(trial=record.trial, replicate=record.replicate, config=record.config, started=now()))

    def complete(self, number: int, result: Result) -> None:
        """Record a trial's result."""
        record = self._update(self.records[number].ended_as(COMPLETE, result=result))
        self._seconds += record.done.totals.seconds

    def fail(self, number: int, error: str, traceback: str | None = None) -> None:
        """Record why a trial failed."""
        error = error.encode(errors="backslashreplace").decode()  # a path in it may be no text, which tables refuse
        self._update(self.records[number].ended_as(FAILED, error=error, traceback=traceback))

    def _update(self, record: Record) -> Record:
        self.records[record.trial] = record
        for numbers in self._here.values():
            numbers.discard(record.trial)
        self._here[record.state].add(record.trial)
        if record.state == COMPLETE and (self.best is None or self._value(record) > self._value(self.best)):
            self.best = record
        self._numbers_at[self.study.space.position(self.point(record))].add(record.trial)
        self._save(record)
        return record

    def _value(self, record: Record) -> float:
        return record.objective(self.study.objective)

    def point(self, record: Record) -> Point:
        """The point of the space that a trial is at."""
        return self.study.space.point(record.config)

    def _at(self, point: Point) -> list[Record]:
        return [self.records[number] for number in self._numbers_at.get(self.study.space.position(point), ())]

    def mean_objective(self, point: Point) -> float | None:
        """Of the complete trials at a point; None without any."""
        values = [self._value(record) for record in self._at(point) if record.state == COMPLETE]
        return sum(values) / len(values) if values else None

    def tried(self, point: Point) -> bool:
        """Whether a trial of this point has ended or is running, so that another one would be a replicate."""
        return any(not record.repeatable for record in self._at(point))

    def exhausted(self) -> bool:
        """Whether every point of the space is tried."""
        if len(self._numbers_at) < self.study.space.size:
            return False
        return all(self.tried(self.study.space.at(position)) for position in range(self.study.space.size))

    def next_replicate(self, point: Point) -> int:
        """The first replicate of a point without a trial; one whose worker was lost counts as without."""
        used = {record.replicate for record in self._at(point) if not record.repeatable}
        replicate = 0
        while replicate in used:
            replicate += 1
        return replicate
