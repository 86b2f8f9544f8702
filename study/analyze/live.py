"""trials.csv, epochs.csv and study.db while a study runs: within a second of a trial's end they have it.

Rows are appended, in the order in which trials end. Once the study ends, `tables.write_all` writes all of it, sorted.
"""

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from moe.console import warn
from moe.files import NOFOLLOW, NONBLOCK
from study.analyze.database import Database
from study.analyze.tables import epochs_csv, trials_csv
from study.files import write_text
from study.folder import Folder
from study.study import RUNNING, Record, Study

EVERY_S = 1.0  # trials that end within this time are written together: a table costs 5 ms, however few its rows are


class LiveTables:
    """The tables of a running study. A file that cannot be written is left as it is, after one warning."""

    def __init__(self, folder: Folder, study: Study, records: Sequence[Record]) -> None:
        self._folder, self._study = folder, study
        self._running = {record.trial: record for record in records if record.state == RUNNING}
        self._waiting = {record.trial: record for record in records if record.state != RUNNING}  # to be written
        self._written: dict[int, Record] = {}
        self._whole = True  # write all rows anew, not only those that are waiting
        self._broken: set[str] = set()
        self._database: Database | None = None
        self._lock, self._closing = threading.Lock(), threading.Lock()
        self._changed, self._closed = threading.Event(), threading.Event()
        self._write()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def add(self, study: Study, record: Record) -> None:
        """Take a trial that has begun or ended; the tables get those that have ended."""
        with self._lock:
            if study.reference != self._study.reference:  # every row has it
                self._waiting, self._whole = {**self._written, **self._waiting}, True
            self._study = study
            if record.state == RUNNING:
                self._running[record.trial] = record
            elif self._running.pop(record.trial, None):
                self._waiting[record.trial] = record
                self._changed.set()

    def close(self) -> None:
        """Write what is left and release the database."""
        self._closed.set()
        self._changed.set()
        with self._closing:
            self._thread.join()
            self._write()
            if self._database:
                self._database.close()
                self._database = None

    def _work(self) -> None:
        while not self._closed.is_set():
            self._changed.wait()
            self._changed.clear()
            self._write()
            self._closed.wait(EVERY_S)

    def _write(self) -> None:
        with self._lock:
            study, running, ended = self._study, list(self._running.values()), list(self._waiting.values())
            self._written |= self._waiting
            whole, self._waiting, self._whole = self._whole, {}, False
        if not (ended or whole):
            return
        put = write_text if whole else _append
        for name, text in (("trials.csv", trials_csv(study, ended, whole)), ("epochs.csv", epochs_csv(ended, whole))):
            self._try(name, partial(put, text=text))
        self._try("study.db", lambda path: self._update(study, [*ended, *running]))

    def _update(self, study: Study, records: Sequence[Record]) -> None:
        self._database = self._database or Database(self._folder, study)
        if self._database.update(study, records):  # it lacks so many that only a rebuild adds them
            self._broken.add("study.db")

    def _try(self, name: str, write: Callable[[Path], None]) -> None:
        if name in self._broken:
            return
        path = self._folder.path / name
        try:
            write(path)
        except OSError as error:
            self._broken.add(name)
            warn(str(path), f"it cannot be written now: {error.strerror}; the end of the study tries again")


def _append(path: Path, text: str) -> None:
    """Append to a file of ours; a link that took its place is an error, and what it points to stays as it is."""
    with open(os.open(path, os.O_WRONLY | os.O_APPEND | NOFOLLOW | NONBLOCK), "a", encoding="utf-8") as file:
        file.write(text)
