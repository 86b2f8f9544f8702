"""A study and a copy of it in a folder that stands for a bucket."""

import threading
import time
from contextlib import contextmanager

from moe.store.files import Local, PlaceError
from moe.store.locks import Timing
from study import copies
from study.folder import Folder
from study.remote import Copy
from study.search.stopping import Stop
from study.study import Run
from tests.study_helpers import STARTED, a_study

QUICK = Timing(beat_s=0.1, ttl_s=0.6, rest_s=0.1)


def a_run(second):
    return Run(started=STARTED.replace(second=second), command="run", commit=None, versions={}, store="default")


def a_folder(path, *records, runs=(1,), **changes):
    folder = Folder(path / "x")
    folder.trials.mkdir(parents=True)
    folder.write_study(a_study(name="x", **changes), *map(a_run, runs))
    for record in records:
        folder.write_record(record)
    return folder


class Place(Local):
    """A folder in place of a service, which fails while `failing` is true, and does not answer before `answers`."""

    def __init__(self, root):
        super().__init__(root)
        self.failing, self.answers = False, threading.Event()
        self.answers.set()

    def _check(self):
        self.answers.wait()
        if self.failing:
            raise PlaceError(f"{self.name}: it is down")

    def read(self, path):
        self._check()
        return super().read(path)

    def files(self, folder):
        self._check()
        return super().files(folder)

    def create(self, path, content):
        self._check()
        return super().create(path, content)

    def replace(self, path, content):
        self._check()
        super().replace(path, content)


@contextmanager
def copying(place, folder, stop=None, said=None):
    said = [] if said is None else said
    copy = Copy(place, folder, said.append, stop or Stop(), QUICK)
    try:
        yield copy
    finally:
        copy.release()


def eventually(check):
    end = time.monotonic() + 20
    while not check():
        assert time.monotonic() < end
        time.sleep(0.02)


def there(place, name="x"):
    """What a study has behind the URL, but the lease of its driver."""
    root = place.root / name
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.*") if path.is_file() and
            ".driver" not in path.parts}  # fmt: skip


def content(folder):
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in copies.sendable(folder.path)}
