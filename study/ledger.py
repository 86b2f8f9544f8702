"""What a running study knows of its trials, and what follows for the next one. Pure bookkeeping, no Ray.

proposed point --ledger--> replicate and seed --> running --> complete or failed
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from moe.config import Config
from study.records import COMPLETE, FAILED, RUNNING, Record, Study, now

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
        keep: told of each record that is new or has changed; it writes them.
    """

    def __init__(self, study: Study, records: Iterable[Record], keep: Callable[[Record], None]) -> None:
        self.study = study
        self.records = {record.trial: record for record in records}
        self.orphans = [record for record in self.records.values() if record.state == RUNNING]
        self.launched: set[int] = set()  # by this run
        self.closed = False  # no more launches: time is up, or a signal came
        self._keep = keep
        self._numbers_at: defaultdict[int, set[int]] = defaultdict(set)  # by the point's position
        for record in self.records.values():
            self._numbers_at[study.space.position(self.point(record))].add(record.trial)

    def of(self, state: str) -> list[Record]:
        """The records in a state."""
        return [record for record in self.records.values() if record.state == state]

    @property
    def running(self) -> list[Record]:
        """The trials of this run that have not ended."""
        return [self.records[number] for number in self.launched if self.records[number].state == RUNNING]

    @property
    def most_failures(self) -> int:
        """How many failed trials end the study: a fifth of those wanted, at least three."""
        return max(3, self.study.trials // 5)

    @property
    def hopeless(self) -> bool:
        """Whether too many trials failed in this run."""
        failed = sum(self.records[number].state == FAILED for number in self.launched)
        return failed >= self.most_failures

    def verdict(self) -> Verdict:
        """Whether to launch another trial now."""
        complete = len(self.of(COMPLETE))
        if self.closed or self.hopeless or complete >= self.study.trials:
            return Verdict.STOP
        if complete + len(self.running) >= self.study.trials:
            return Verdict.WAIT
        return Verdict.LAUNCH

    def start(self, point: Point, replicate: int) -> Record:
        """Enter a new trial."""
        config = Config(
            **self.study.space.values(point),
            protocol=self.study.protocol,
            precision=self.study.precision,
            seed=self.study.seed_of(replicate),
        )
        number = max(self.records, default=0) + 1
        return self._enter(Record(trial=number, replicate=replicate, config=config.as_dict(), started=now()))

    def restart(self, orphan: Record) -> Record:
        """Enter a trial again that an earlier run had not ended, with its number and seed."""
        self.orphans.remove(orphan)
        return self._enter(Record(trial=orphan.trial, replicate=orphan.replicate, config=orphan.config, started=now()))

    def _enter(self, record: Record) -> Record:
        self.launched.add(record.trial)
        self._update(record)
        return record

    def complete(self, number: int, result: dict[str, Any]) -> None:
        """Enter what a trial found."""
        self._update(self.records[number].ended_as(COMPLETE, result=result))

    def fail(self, number: int, error: str, traceback: str | None = None) -> None:
        """Enter why a trial failed."""
        self._update(self.records[number].ended_as(FAILED, error=error, traceback=traceback))

    def _update(self, record: Record) -> None:
        self.records[record.trial] = record
        self._numbers_at[self.study.space.position(self.point(record))].add(record.trial)
        self._keep(record)

    def point(self, record: Record) -> Point:
        """The point of the space that a trial is at."""
        return self.study.space.point(record.config)

    def _at(self, point: Point) -> list[Record]:
        return [self.records[number] for number in self._numbers_at.get(self.study.space.position(point), ())]

    def known(self, point: Point) -> float | None:
        """The mean objective of the complete trials at a point; None where there is none."""
        values = [r.value(self.study.objective) for r in self._at(point) if r.state == COMPLETE]
        return sum(values) / len(values) if values else None

    def taken(self, point: Point) -> bool:
        """Whether this point was tried, or is being tried, so that another trial of it would be a replicate."""
        return any(record.settled for record in self._at(point))

    def exhausted(self) -> bool:
        """Whether every point of the space is taken."""
        if len(self._numbers_at) < self.study.space.size:
            return False
        return all(self.taken(self.study.space.at(position)) for position in range(self.study.space.size))

    def next_replicate(self, point: Point) -> int:
        """The first replicate of a point that is still to be tried; one whose worker was lost is tried again."""
        used = {record.replicate for record in self._at(point) if record.settled}
        replicate = 0
        while replicate in used:
            replicate += 1
        return replicate
