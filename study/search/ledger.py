"""The trials of a running study, and what follows for the next one. Pure bookkeeping: no Ray, no files.

proposed point --ledger--> replicate and seed --> running --> complete or failed

The search comes first: each proposed point on every seed of the study. Then the phase refine takes what
`study.select.refine` wants. `Asked` is the ledger of a single trial beside them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from itertools import count
from typing import Any

from moe.result import Result
from study.select.refine import Replicate, replicates
from study.study import ASK, COMPLETE, FAILED, REFINE, RUNNING, SEARCH, Phase, Record, Reference, State, Study, now

Point = dict[str, int]
MOST_TRIES = 3  # times that a worker is lost with a config before the config counts as the reason


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
        save_study: called with the study when it has another reference.
        max_failures: failed trials that end the study; by default a fifth of those wanted, at least three.
        alone: whether no other process runs trials, so that those that run were left by earlier ones.
    """

    def __init__(
        self,
        study: Study,
        records: Iterable[Record],
        save: Callable[[Record], None],
        save_study: Callable[[Study], None] = lambda study: None,
        max_failures: int | None = None,
        alone: bool = True,
    ) -> None:
        self.study = study
        self.max_failures = max_failures or max(3, study.search_trials // 5)
        self._save_study = save_study
        self.records = {record.trial: record for record in records}
        # by earlier runs, and not started again
        self._interrupted = {record.trial for record in self.of(RUNNING)} if alone else set()
        self.best = max(self.of(COMPLETE), key=self._objective, default=None)
        self.closed = False  # no more launches: time is up, or a signal came
        self._save = save
        # they are needed at every step, so they are counted as they change
        self._count = Counter(record.state for record in self.records.values())
        self._searched = Counter(record.state for record in self.records.values() if record.phase == SEARCH)
        self._ends = 0  # trials that have ended since
        self._wanted: tuple[int, list[Replicate]] = (-1, [])  # by the phase refine, after so many ends
        self._failed_before = self._count[FAILED]  # in earlier runs
        self._seconds = sum(record.done.totals.seconds for record in self.of(COMPLETE))
        self._last = max(self.records, default=0)
        self._numbers_at: defaultdict[int, set[int]] = defaultdict(set)  # by the point's position
        for record in self.records.values():
            self._numbers_at[study.space.position(self.point(record))].add(record.trial)
        self._trials_at = Counter[int]()  # by the point's position, as `_count_trials` has it
        for position in self._numbers_at:
            self._count_trials(position)

    def of(self, state: str) -> list[Record]:
        """The records in a state."""
        return [record for record in self.records.values() if record.state == state]

    def ended(self, state: State) -> int:
        """How many trials are complete, or have failed, those of earlier runs included."""
        return self._count[state]

    @property
    def refining(self) -> bool:
        """Whether the search has all its trials."""
        return self._searched[COMPLETE] >= self.study.search_trials

    @property
    def phase(self) -> Phase:
        """Of the next trial."""
        return REFINE if self.refining and self.study.refine else SEARCH

    @property
    def missing(self) -> int:
        """How many trials the current phase still needs, as far as that is known."""
        return len(self.wanted()) if self.refining else self.study.search_trials - self._searched[COMPLETE]

    def wanted(self) -> list[Replicate]:
        """What the current stage of refining still needs, running trials included."""
        ends = self._ends  # before the records: the panel's thread reads too, and what it finds may be outdated
        known, found = self._wanted
        if known != ends:
            found = replicates(self.study, list(self.records.values()))
            self._wanted = ends, found
        return found

    @property
    def mean_seconds(self) -> float:
        """Of the complete trials; 0 without any."""
        return self._seconds / max(1, self.ended(COMPLETE))

    @property
    def too_many_failed(self) -> bool:
        """Whether too many trials failed in this run."""
        return self._count[FAILED] - self._failed_before >= self.max_failures

    def verdict(self) -> Verdict:
        """Whether to launch another trial now."""
        if self.closed or self.too_many_failed:
            return Verdict.STOP
        if self.refining:
            if any(self._open(each.point, each.replicate) for each in self.wanted()):
                return Verdict.LAUNCH
            return Verdict.WAIT if self.wanted() else Verdict.STOP
        running = self._searched[COMPLETE] + self._searched[RUNNING] - len(self.interrupted)
        return Verdict.WAIT if running >= self.study.search_trials else Verdict.LAUNCH

    @property
    def interrupted(self) -> list[Record]:
        """The trials of the search that an earlier run did not end."""
        return [self.records[number] for number in sorted(self._interrupted) if self.records[number].phase == SEARCH]

    def _open(self, point: Point, replicate: int) -> bool:
        """Whether a point has no trial with that seed that runs or has ended."""
        left = {number for number in self._interrupted if self.records[number].phase != ASK}  # to be started again
        return not any(
            record.replicate == replicate and not record.repeatable and record.trial not in left
            for record in self._at(point)
        )

    def next_planned(self) -> Record | None:
        """Start the next trial that no sampler proposes; None if there is none."""
        if not self.refining:
            return self._next_seed()
        point, replicate = next(each for each in self.wanted() if self._open(each.point, each.replicate))
        for record in self._at(point):
            if record.replicate == replicate and record.trial in self._interrupted:
                return self.restart(record)
        return self._start(point, replicate, REFINE)

    def _next_seed(self) -> Record | None:
        """Start a point of the search on one of the study's seeds that it lacks; None if every point has them all."""
        if self.study.seeds == 1 or self.interrupted:
            return None
        for position, numbers in list(self._numbers_at.items()):
            if all(self.records[number].phase == ASK for number in numbers):
                continue
            point = self.study.space.at(position)
            for replicate in range(self.study.seeds):
                if self._open(point, replicate):
                    return self._start(point, replicate, SEARCH)
        return None

    def next_of_grid(self, order: Sequence[int]) -> Point:
        """Of the points with the fewest trials the first one in this order; before all, the notebook's default."""
        space = self.study.space
        if not self._trials_at[space.position(space.default)]:
            return space.default
        return space.at(min(order, key=self._trials_at.__getitem__))

    def _count_trials(self, position: int) -> None:
        """Count a point's trials of the search; one whose worker was lost, once that was so again and again."""
        found = [self.records[number] for number in self._numbers_at[position]]
        found = [record for record in found if record.phase == SEARCH]
        lost = Counter(record.replicate for record in found if record.repeatable)
        self._trials_at[position] = len(found) - sum(min(times, MOST_TRIES - 1) for times in lost.values())

    def start(self, point: Point) -> Record:
        """Add a new trial: the next replicate of a point."""
        return self._start(point, self.next_replicate(point), SEARCH)

    def _start(self, point: Point, replicate: int, phase: Phase) -> Record:
        self._last += 1
        config = self.study.config(point, replicate)
        return self._update(Record(trial=self._last, phase=phase, replicate=replicate, config=config, started=now()))

    def restart(self, record: Record) -> Record:
        """Start a trial again that an earlier run did not end, with its number and seed."""
        self._interrupted.discard(record.trial)
        return self._update(record.replace(started=now()))

    def refer(self, reference: Reference) -> None:
        """Add a reference, against which every gain is held from now on."""
        self.study = self.study.replace(reference=(*self.study.reference, reference))
        self._save_study(self.study)

    def complete(self, number: int, result: Result) -> None:
        """Record a trial's result."""
        record = self._update(self.records[number].ended_as(COMPLETE, result=result))
        self._seconds += record.done.totals.seconds

    def fail(self, number: int, error: str, traceback: str | None = None) -> None:
        """Record why a trial failed."""
        self._update(
            self.records[number].ended_as(FAILED, error=_text(error), traceback=traceback and _text(traceback))
        )

    def _update(self, record: Record) -> Record:
        if before := self.records.get(record.trial):
            self._count[before.state] -= 1
            self._searched[before.state] -= before.phase == SEARCH
        self._count[record.state] += 1
        self._searched[record.state] += record.phase == SEARCH
        self.records[record.trial] = record
        self._ends += record.state != RUNNING
        if record.state == COMPLETE and (self.best is None or self._objective(record) > self._objective(self.best)):
            self.best = record
        position = self.study.space.position(self.point(record))
        self._numbers_at[position].add(record.trial)
        self._count_trials(position)
        self._save(record)
        return record

    def _objective(self, record: Record) -> float:
        return self.study.value(record, self.study.objective)

    def value(self, record: Record) -> float | None:
        """The objective of a complete trial; None of another."""
        return self._objective(record) if record.state == COMPLETE else None

    def point(self, record: Record) -> Point:
        """The point of the space that a trial is at."""
        return self.study.space.point(record.config)

    def _at(self, point: Point) -> list[Record]:
        return [self.records[number] for number in self._numbers_at.get(self.study.space.position(point), ())]

    def mean_objective(self, point: Point) -> float | None:
        """Of the complete trials at a point; None without any."""
        values = [self._objective(record) for record in self._at(point) if record.state == COMPLETE]
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
        return next(replicate for replicate in count() if replicate not in used)


class Asked(Ledger):
    """The ledger of one trial at a point that a person names, whatever the study still lacks."""

    phase = ASK

    def __init__(self, point: Point, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._asked_point, self._number = point, 0

    @property
    def asked(self) -> Record | None:
        """The trial; None before it has begun."""
        return self.records.get(self._number)

    @property
    def missing(self) -> int:
        """Whether it has not ended, as a number."""
        return int(self.asked is None or self.asked.state == RUNNING)

    def verdict(self) -> Verdict:
        """Whether to launch it now."""
        if self.closed or not self.missing:
            return Verdict.STOP
        return Verdict.WAIT if self.asked else Verdict.LAUNCH

    def next_planned(self) -> Record:
        """Start it: the next replicate of the point, or the one that an earlier run was asked for and left."""
        left = [one for one in self._at(self._asked_point) if one.phase == ASK and one.trial in self._interrupted]
        replicate = self.next_replicate(self._asked_point)
        record = self.restart(left[0]) if left else self._start(self._asked_point, replicate, ASK)
        self._number = record.trial
        return record


def _text(words: str) -> str:
    """The words with each byte of a path that is no text as an escape: neither records nor tables can hold it."""
    return words.encode(errors="backslashreplace").decode()
