"""Results behind a URL: a study runs in ./results, and whatever it records there is copied as it is written.

    begin    no other driver copies there --> what is there and lacks here is fetched
    run      a thread copies study.json and records as they change
    end      everything else: tables, figures

Services such as S3 change no file in place and lock none, so nothing works on the URL itself.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from moe.console import Exit, emit, warn
from moe.files import irregular, read_regular
from moe.store.files import Local, Place, PlaceError
from moe.store.location import place_at
from moe.store.locks import Lease, Leases, Timing
from moe.store.tolerant import TolerantFiles
from study.copies import ELSEWHERE, LARGEST, download, sendable, to_take
from study.folder import Folder, FolderError
from study.search.stopping import Stop

LOOK_S = 1.0  # between two looks for what has changed here
REST_S = 10.0  # after a failure to copy
END_S = 60.0  # that the end of a study waits for a service that fails
_CLAIM = ".driver"  # the folder behind the URL with the lease of who copies


class Copy:
    """A study's folder behind a URL, held until `release`.

    Args:
        place: where all studies are copied to.
        folder: the study here.
        warn: called with a sentence.
        broken: called with why this driver must stop.

    Raises:
        FolderError: another driver copies there, or the study there is another one, is damaged or cannot be read.
    """

    def __init__(
        self,
        place: Place,
        folder: Folder,
        warn: Callable[[str], None],
        broken: Callable[[FolderError], None],
        timing: Timing | None = None,
    ) -> None:
        self._place, self._folder, self._warn, self._broken = place, folder, warn, broken
        self.where = f"{place.name.rstrip('/')}/{folder.path.name}"
        self._sent: dict[str, tuple[int, ...]] = {}  # by file, what it was like here when it was equal there
        self._there: set[str] = set()
        self._copying, self._over = threading.Lock(), threading.Event()
        self._timing = timing or Timing()
        # what fails to be copied is said elsewhere
        self._leases = Leases(TolerantFiles(place, lambda why: None, self._timing.rest_s), self._timing)
        self._lease = self._claimed()
        try:
            self._fetch()
        except BaseException:
            self._give_up()
            raise
        self._thread = threading.Thread(target=self._keep_copying, name="copy", daemon=True)
        self._thread.start()

    def _claimed(self) -> Lease:
        """The lease of this study behind the URL, once no other driver shows a sign of life."""
        began, told = time.monotonic(), False
        while (lease := self._leases.acquire(f"{self._folder.path.name}/{_CLAIM}")) is None:
            if (waited := time.monotonic() - began) > self._timing.ttl_s + 2 * self._timing.beat_s:
                self._leases.close()
                raise FolderError(f"{self.where} is in use by another driver; wait for it or stop it")
            if not told:
                told = True
                self._warn(
                    f"another driver has left {self.where}, or runs: that shows within {self._timing.ttl_s:.0f} s"
                )
            time.sleep(min(1.0, self._timing.ttl_s / 10, self._timing.ttl_s - waited + 1))
        if lease.generation:
            return lease
        self._leases.close()
        try:
            self._place.create(f"{self._folder.path.name}/{_CLAIM}/write", b"")
        except PlaceError as error:
            raise FolderError(f"{self.where} cannot be written ({error}); expected a place that can") from None
        raise FolderError(f"{self.where} cannot be used: it creates no file exclusively, so two drivers could write it")

    def _fetch(self) -> None:
        """Bring here what is there and lacks here."""
        with tempfile.TemporaryDirectory(prefix="study-copy-") as scratch:
            there = Folder(Path(scratch) / self._folder.path.name)
            try:
                self._there = download(self._place, there)
            except PlaceError as error:
                raise FolderError(f"{self.where} cannot be read ({error})") from None
            if there.exists():
                self._merge(there)
            elif self._there:
                raise FolderError(f"{self.where} has files and no study.json; {ELSEWHERE}")

    def _merge(self, there: Folder) -> None:
        try:
            there.read_records(there.read_study())
        except FolderError as error:
            raise FolderError(str(error).replace(str(there.path), self.where)) from None
        with self._folder.locked():
            for name in to_take(there, self._folder, self.where, self._there):
                Local(self._folder.path).replace(name, (there.path / name).read_bytes())
        equal = (name for name in self._there if _content(there.path / name) == _content(self._folder.path / name))
        self._sent = {name: _state(self._folder.path / name) for name in equal}

    def _keep_copying(self) -> None:
        while not self._over.wait(LOOK_S):
            with self._copying:
                try:
                    self._copy(self._records())
                except PlaceError as error:
                    self._warn_once(error)
                    self._over.wait(REST_S)
                except FolderError as error:
                    self._broken(error)
                    return

    def _warn_once(self, error: PlaceError) -> None:
        """Say that a copy failed, the first time."""
        self._warn(f"{self.where} cannot be written ({error}); all is in {self._folder.path}, and is copied later")
        self._warn_once = lambda error: None  # type: ignore[method-assign]

    def _records(self) -> Iterator[Path]:
        if self._folder.exists():
            yield self._folder.definition
        yield from sorted(self._folder.trials.glob("[0-9]*.json"))

    def _copy(self, paths: Iterable[Path]) -> None:
        """Copy those of these files that have changed.

        Raises:
            PlaceError: a file cannot be written.
            FolderError: another driver copies there now.
        """
        for path in paths:
            name = path.relative_to(self._folder.path).as_posix()
            if irregular(path) or (state := _state(path)) == self._sent.get(name) or not state:
                continue
            self._put(name, read_regular(path, LARGEST))
            self._sent[name] = state  # from before it was read: if it has changed since, it is copied again

    def _put(self, name: str, content: bytes) -> None:
        if not self._lease.holds(self._timing.beat_s):
            raise FolderError(f"{self.where} was taken over by another driver while a study ran in {self._folder.path}")
        at = f"{self._folder.path.name}/{name}"
        if name in self._there or not name.startswith("trials/"):
            self._place.replace(at, content)
        elif not self._place.create(at, content) and self._place.read(at) != content:
            raise FolderError(f"{self._place.name}/{at} was written by another driver meanwhile, and stays as it is")
        self._there.add(name)

    def finish(self) -> bool:
        """Copy everything, tables and figures included; whether all of it is there."""
        end, reason = time.monotonic() + END_S, "it does not answer"
        self._over.set()  # what the thread has not copied is left to this one
        if self._copying.acquire(timeout=END_S):
            try:
                while time.monotonic() < end:
                    try:
                        self._copy(sendable(self._folder.path))
                        return True
                    except PlaceError as error:
                        reason = str(error)
                    time.sleep(min(REST_S, END_S / 10))
            except FolderError as error:
                reason = str(error)
            finally:
                self._copying.release()
        self._warn(f"{self.where} lacks files of {self._folder.path} ({reason})")
        return False

    def release(self) -> None:
        """Leave the place to other drivers."""
        self._over.set()
        self._thread.join()
        self._give_up()

    def _give_up(self) -> None:
        self._lease.beat(released=True)
        self._leases.close()


def _content(path: Path) -> bytes | None:
    try:
        return read_regular(path, LARGEST)
    except OSError:
        return None


def _state(path: Path) -> tuple[int, ...]:
    """What changes when a file is replaced; empty if there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


@contextmanager
def copied(results: str, folder: Folder, program: str, stop: Stop) -> Iterator[Copy]:
    """A study's folder while it is copied to where `results` says, and after a hard end of the process too."""

    def broken(error: FolderError) -> None:
        stop.broken = stop.broken or error

    copy = Copy(place_at(results), folder, lambda why: warn(program, why), broken)
    stop.before_exit = copy.finish
    try:
        yield copy
    finally:
        copy.release()


def copy_at_end(copy: Copy, code: Exit, command: str) -> Exit:
    """Copy what is left, and print where it is; the exit code of a study that ended with `code`."""
    if copy.finish():
        emit(f"A copy is at {copy.where}")
        return code
    emit(f"Copy the rest with: {command}")
    return Exit.ENVIRONMENT if code == Exit.DONE else code
