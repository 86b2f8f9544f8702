"""A study without Ray: any number of processes take the trials of a grid one by one, until none is left.

    lock the folder, read the records --> a trial: one whose worker has died, or the next that the ledger wants
    train it here, under a lease that shows that this process lives
    lock the folder, record how it ended

The processes share the study's folder and the store, on one machine or on many. The last one writes the tables.
"""

import math
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain

from moe.config import Config
from moe.console import Exit, emit, warn
from moe.result import Result
from moe.schema import decode, fields
from moe.store.files import Local
from moe.store.locks import Lease, Leases, Timing
from moe.store.tolerant import TolerantFiles
from moe.training.numerics import configure_numerics
from study.conclusion import RESUME, conclude
from study.definition import Request
from study.files import write_text
from study.folder import Folder, FolderError
from study.lock import InUseError
from study.machine import ClusterError
from study.search.ledger import MOST_TRIES, Ledger, Verdict
from study.search.progress import Progress
from study.search.proposals import GridProposals
from study.search.reference import missing_references, wanted_references
from study.search.stopping import Stop
from study.search.trial import EpochReport, Job, Row
from study.search.worker import devices, evaluate, refer
from study.study import ASK, FAILED, RUNNING, Record, Reference, Run, Study

POLL_S = 2.0  # between two looks for a trial, while those that others train may be enough
TELL_S = 10.0  # of waiting for the folder, after which that is said
LOCK_S = 600.0  # that others may hold the folder: each has it for less than a second, and for the tables at the end
DIED = f"its worker died {MOST_TRIES} times: killed, out of memory, or its machine was lost"


class Headless:
    """One of the processes that run a study together.

    Args:
        request: the study as the options define it.
        study: the same, with its data.
        job: what all trials have in common.
        stop: whether to end early.
    """

    def __init__(self, request: Request, study: Study, job: Job, stop: Stop) -> None:
        self._request, self._options, self._job, self._stop = request, request.options, job, stop
        self._study, self._folder = study, Folder(self._options.studies / study.name)
        self._proposals = GridProposals(study)
        self._instructions = configure_numerics(devices(job.resources)[0], study.precision).instructions
        self._failed_before: int | None = None  # failed trials when this process began
        self._too_many_failed = False
        self._progress = Progress(Ledger(study, [], self._folder.write_record), terminal=False)
        timing = Timing(stuck_s=60 * self._options.stall_minutes)
        place = Local(self._folder.path / ".leases")
        cost = "another worker may train the same trial"
        files = TolerantFiles(place, self._progress.warned, timing.rest_s, place.name, cost)
        self._leases, self._lease = Leases(files, timing), Lease(files, "", 0, over=True)  # the one that is held
        self._joined = False

    def run(self, this_run: Run) -> Exit:
        """Run trials until none is left; the exit code."""
        hours = self._options.hours
        self._stop.deadline = time.monotonic() + 3600 * hours if hours else None
        self._stop.resume = self._request.command
        try:
            for config in self._join(this_run):
                self._refer(config)
            while (taken := self._take()) is not Verdict.STOP:
                if isinstance(taken, Verdict):
                    time.sleep(POLL_S)
                else:
                    self._train(taken)
            return self._end()
        except KeyboardInterrupt:
            warn(self._options.program, f"this worker was interrupted. Continue with: {self._request.command}")
            return Exit.INTERRUPTED
        finally:
            self._lease.beat(released=True)
            self._leases.close()

    @contextmanager
    def _locked(self, patience_s: float = LOCK_S) -> Iterator[tuple[Study, list[Record]]]:
        """Hold the folder, as soon as the others let go of it; the study and its records."""
        began = time.monotonic()
        with ExitStack() as stack:
            while True:
                self._check_there()
                try:
                    stack.enter_context(self._folder.locked())
                    break
                except InUseError:
                    if (waited := time.monotonic() - began) > patience_s:
                        raise
                if waited > TELL_S:
                    self._progress.warned(f"waiting for {self._folder.path}, which another process holds")
                time.sleep(random.uniform(0.02, 0.2))
            study = self._check_there()
            yield study, self._folder.read_records(study)

    def _check_there(self) -> Study:
        """The study in the folder, or the one to begin; raises a FolderError if it is not the one that was joined."""
        found = self._folder.read_study() if self._folder.exists() else None
        if self._joined and (found is None or _core(found) != _core(self._study)):
            raise FolderError(f"{self._folder.path} was moved or replaced while this worker ran")
        return found or self._study

    def _join(self, this_run: Run) -> list[Config]:
        """Begin the study, or join those that run it; the references that it lacks, in another order for each."""
        with self._locked() as (found, records):
            before = self._request.before
            if _plan(found) not in (_plan(self._study), before and _plan(before)):
                raise FolderError(f"{self._folder.path} was begun with other options meanwhile; run the command again")
            self._check_arithmetic(records)
            study = self._study.replace(reference=found.reference)
            self._folder.subfolder(".leases")
            self._folder.write_study(study, this_run)
            self._joined = True
            self._to_conclude()
        emit(f"  records in {self._folder.path}; each process with this command takes the next trial")
        missing = wanted_references(study, records)
        return random.sample(missing, len(missing))

    def _to_conclude(self) -> None:
        """Leave word that the tables are to be written: whoever finds that nothing is missing does it."""
        write_text(self._folder.path / RESUME, f"{self._request.command}\n")

    def _refer(self, config: Config) -> None:
        """Train a reference, of which the store leaves one process the work, unless there is one by now."""
        if config not in missing_references(self._folder.read_study()):
            return
        rows: list[Row] = []
        with suppress(Exception):  # what is unexpected is in the last row too
            refer(self._job, config, rows.append)
        for sentence in chain(*(row.get("warnings", ()) for row in rows)):
            self._progress.warned(sentence)
        if "accuracy" not in rows[-1]:
            self._progress.warned(f"a reference is left out: {rows[-1]['error']}")
            return
        with self._locked() as (study, records):
            if config in wanted_references(study, records):
                self._ledger(study, records).refer(Reference(config=config, accuracy=rows[-1]["accuracy"]))
                self._to_conclude()
                self._progress.referred(self._progress.ledger.study.reference[-1])

    def _ledger(self, study: Study, records: list[Record]) -> Ledger:
        """The ledger while the folder is held."""
        ledger = Ledger(
            study,
            records,
            self._folder.write_record,
            self._folder.write_study,
            self._options.max_failures,
            alone=False,
        )
        failed = ledger.ended(FAILED)
        self._failed_before = failed if self._failed_before is None else self._failed_before
        self._too_many_failed = failed - self._failed_before >= ledger.max_failures
        ledger.closed = self._too_many_failed or self._stop.launching_is_over(ledger)
        self._progress.ledger, self._progress.at_once = ledger, max(1, len(ledger.of(RUNNING)))
        return ledger

    def _take(self) -> Verdict | Record:
        """Start a trial, and hold its lease; or whether to wait for those of others, or to end."""
        with self._locked() as (study, records):
            ledger = self._ledger(study, records)
            if ledger.closed:
                return Verdict.STOP
            for record in ledger.of(RUNNING):
                if record.phase != ASK and self._hold(record):
                    if self._lease.deaths() < MOST_TRIES:
                        return ledger.restart(record)
                    ledger.fail(record.trial, DIED)
                    self._progress.warned(f"trial {record.trial} failed: {DIED}")
                    self._lease.beat(released=True)
            if (verdict := ledger.verdict()) is not Verdict.LAUNCH:
                return verdict
            record = ledger.next_planned() or self._proposals.start(ledger)
            return record if self._hold(record) else Verdict.WAIT

    def _hold(self, record: Record) -> bool:
        """Acquire the lease of a trial, if no other process holds it."""
        lease = self._leases.acquire(f"trial-{record.trial:04d}")
        if lease is None:
            return False
        if not lease.generation:
            where = self._folder.path / ".leases"
            raise FolderError(f"{where} cannot be used; expected a folder in which files can be created exclusively")
        self._lease = lease
        return True

    def _train(self, record: Record) -> None:
        """Train a trial, and record how it ended.

        Raises:
            ClusterError: it ended so that this process may not be able to run another one.
        """
        self._progress.started(record)
        outcome: Row = {}

        def send(row: Row) -> None:
            self._lease.epochs += 1
            for sentence in row.get("warnings", ()):
                self._progress.warned(sentence)
            if "stage" in row:
                report = EpochReport(**{name: row[name] for name in fields(EpochReport)})
                self._progress.progressed(record.trial, report)
            else:
                outcome.update(row)

        try:
            evaluate(self._job, record.config, send)
        except Exception as error:
            self._record(record, outcome)
            again = f"continue with: {self._request.command}"
            raise ClusterError(f"trial {record.trial} failed unexpectedly, which ends this worker; {again}") from error
        self._record(record, outcome)
        self._lease.beat(released=True)

    def _record(self, record: Record, outcome: Row) -> None:
        """Record how a trial ended, unless another process has taken it over."""
        with self._locked(patience_s=math.inf) as (study, records):
            self._check_arithmetic(records)
            ledger = self._ledger(study, records)
            self._to_conclude()
            if ledger.records.get(record.trial) != record:
                self._progress.warned(f"trial {record.trial} was taken over by another worker")
                self._progress.running.pop(record.trial)
                return
            if "result" in outcome:
                ledger.complete(record.trial, decode(Result, outcome["result"]))
            else:
                ledger.fail(record.trial, outcome["error"], outcome["traceback"])
            self._progress.ended(ledger.records[record.trial])

    def _check_arithmetic(self, records: list[Record]) -> None:
        """Raise a ClusterError if this machine's results would differ from those of the trials that there are."""
        theirs = next((record.result.instructions for record in records if record.result), self._instructions)
        if theirs != self._instructions and not self._options.mixed:
            raise ClusterError(
                f"this machine trains with {self._instructions}, the study's trials were trained with {theirs}, whose "
                "results differ in the last digits; expected a machine like theirs, or --mixed"
            )

    def _end(self) -> Exit:
        """Write the tables, unless another process has; the exit code."""
        folder = self._folder.path
        with self._locked() as (study, records):
            if self._progress.ledger.closed or (folder / RESUME).exists():
                code = conclude(self._options, study, self._too_many_failed)
                if code == Exit.DONE and not any(record.state == RUNNING for record in records):
                    shutil.rmtree(folder / ".leases", ignore_errors=True)
                return code
        emit(f"All trials are done, and another worker has written what is in {folder}")
        return Exit.DONE


def _plan(study: Study) -> Study:
    """What all processes of a study agree on."""
    return study.replace(reference=(), source="", data_folder=None)


def _core(study: Study) -> Study:
    """What of a study never changes."""
    return _plan(study).replace(trials=1, refine=0, refine_seeds=1, space=study.space.replace(resources=()))
