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

from moe.cli import refuse
from moe.console import Exit, emit, warn
from moe.files import irregular, read_regular
from moe.store.files import Local, Place, PlaceError
from moe.store.location import place_at
from moe.store.locks import Lease, Leases, Timing, newest
from moe.store.tolerant import TolerantFiles
from study.confirm.plan import is_confirmation, scored_since
from study.copies import ELSEWHERE, LARGEST, download, finished, sendable, to_take
from study.folder import Folder, FolderError
from study.options import DEFAULTS, PROGRAM, Options, resume_command, space_of
from study.search.stopping import Stop

LOOK_S = 1.0  # between two looks for what has changed here
REST_S = 10.0  # after a failure to copy
END_S = 60.0  # that the end of a study waits for a file to be copied
SIGNALLED_S = 15.0  # the same after a signal: what sent it may kill soon
LEAVE_S = 10.0  # for the lease to be released
TIMING = Timing(rest_s=10.0)  # beats are back soon after a failure


class Copy:
    """A study's folder behind a URL, which no other driver writes until `release`.

    Args:
        place: where all studies are copied to.
        folder: the study here.
        warn: called with a sentence.
        stop: told if another driver has taken over.

    Raises:
        FolderError: another driver copies there, or the study there is another one, is damaged or cannot be read.
    """

    def __init__(
        self, place: Place, folder: Folder, warn: Callable[[str], None], stop: Stop, timing: Timing = TIMING
    ) -> None:
        self._place, self._folder, self._warn, self._stop, self._timing = place, folder, warn, stop, timing
        self.where = f"{place.name.rstrip('/')}/{folder.path.name}"
        self._claim = f"{folder.path.name}/.driver"  # the lease of who copies is in it
        self._sent: dict[str, tuple[int, ...]] = {}  # by file that is equal there, what it was like here
        self._there: set[str] = set()  # all files there
        self._ended: set[str] = set()  # records that are copied and change no more; they are not looked at each second
        self._warned: set[str] = set()
        self._lacking: str | None = "it does not answer"  # why not all is there, once the study has ended
        self._ending, self._over = threading.Event(), threading.Event()
        self._advanced = self._checked = time.monotonic()
        self._leases, self._lease = self._claimed()
        self._thread = threading.Thread(target=self._work, name="copy", daemon=True)
        try:
            self._fetch()
        except BaseException:
            self.release()
            raise
        self._thread.start()

    def _claimed(self) -> tuple[Leases, Lease]:
        """The lease of this study behind the URL, once no other driver shows a sign of life."""
        for _ in range(2):  # the place may fail once
            leases, lease = self._acquired()
            if lease.generation:
                return leases, lease
            leases.close()
            try:
                self._place.create(f"{self._claim}/write", b"")
                self._place.remove(f"{self._claim}/write")
            except PlaceError as error:
                raise FolderError(f"{self.where} cannot be written ({error}); expected a place that can") from None
        raise FolderError(f"{self.where} cannot be used: it creates no file exclusively, so two drivers could write it")

    def _acquired(self) -> tuple[Leases, Lease]:
        """That lease, and what keeps it alive; its generation is 0 where the place fails."""
        # what fails to be copied is said elsewhere
        leases = Leases(TolerantFiles(self._place, lambda why: None, self._timing.rest_s), self._timing)
        began, told = time.monotonic(), False
        while (lease := leases.acquire(self._claim)) is None:
            if time.monotonic() - began > self._timing.ttl_s + 2 * self._timing.beat_s:
                leases.close()
                raise FolderError(f"{self.where} is in use by another driver; wait for it or stop it")
            if not told:
                told, shows = True, f"that shows within {self._timing.ttl_s:.0f} s"
                self._warn(f"another driver has left {self.where}, or still runs; {shows}")
            time.sleep(min(1.0, self._timing.ttl_s / 10))
        return leases, lease

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
            records = there.read_records(there.read_study())
        except FolderError as error:
            raise FolderError(str(error).replace(str(there.path), self.where)) from None
        try:
            with self._folder.locked():
                for name in to_take(there, records, self._folder, self.where, self._there):
                    Local(self._folder.path).replace(name, (there.path / name).read_bytes())
        except PlaceError as error:
            raise FolderError(f"{self._folder.path} cannot be written ({error})") from None
        equal = (name for name in self._there if _content(there.path / name) == _content(self._folder.path / name))
        self._sent = {name: _state(self._folder.path / name) for name in equal}

    def _work(self) -> None:
        """Copy what changes; at the end of the study the rest, until all of it is there."""
        while not self._over.is_set():
            ending = self._ending.wait(LOOK_S)
            try:
                unread = self._copy(self._records())
                if ending:
                    self._lacking = unread or self._copy(sendable(self._folder.path))
                    return
            except PlaceError as error:
                self._lacking = str(error)
                later = f"all is in {self._folder.path}, and is copied later"
                self._warn_once("service", f"{self.where} cannot be written ({error}); {later}")
                time.sleep(REST_S / 10) if ending else self._ending.wait(REST_S)
            except FolderError as error:
                self._lacking, self._stop.broken = str(error), self._stop.broken or error
                return

    def _warn_once(self, kind: str, sentence: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            self._warn(sentence)

    def _records(self) -> Iterator[Path]:
        if self._folder.exists():
            yield self._folder.definition
        yield from (path for path in sorted(self._folder.trials.glob("[0-9]*.json")) if path.name not in self._ended)

    def _copy(self, paths: Iterable[Path]) -> str | None:
        """Copy those of these files that have changed; why one could not be read.

        Raises:
            PlaceError: a file cannot be written.
            FolderError: another driver copies there now, or has copied another one.
        """
        unread = None
        for path in paths:
            name, state = path.relative_to(self._folder.path).as_posix(), _state(path)
            if not state or irregular(path) or state == self._sent.get(name):
                continue
            if state[-1] > LARGEST:
                self._warn_once(name, f"{path} is not copied: it has more than {LARGEST // 2**20} MiB")
                continue
            try:
                content = read_regular(path, LARGEST)
            except OSError as error:
                unread = f"{path}: {error.strerror or error}"
                self._warn_once(name, f"{path} cannot be read ({error.strerror or error}), and is copied later")
                continue
            self._put(name, content)
            self._sent[name] = state  # from before it was read: if it has changed since, it is copied again
            if name.startswith("trials/") and finished(content):
                self._ended.add(path.name)
            self._advanced = time.monotonic()
        return unread

    def _put(self, name: str, content: bytes) -> None:
        self._check_held()
        at, folder = f"{self._folder.path.name}/{name}", name.partition("/")[0]
        if folder != "trials" and not is_confirmation(folder):
            self._place.replace(at, content)
        elif name in self._there or not self._place.create(at, content):
            found = self._place.read(at) or b""
            may_change = not finished(found) if folder == "trials" else scored_since(found, content)
            if found not in (b"", content) and not may_change:
                advice = "" if folder == "trials" else f"; if {folder} was planned anew here, move that one away"
                raise FolderError(f"{self._place.name}/{at} was written by another driver, and stays as it is{advice}")
            self._place.replace(at, content)
        self._there.add(name)

    def _check_held(self) -> None:
        """Raise a FolderError if another driver has taken over, or a PlaceError where that cannot be known now."""
        if time.monotonic() - self._checked >= self._timing.beat_s:
            if newest(self._place, self._claim) > self._lease.generation:
                taken = "was taken over by another driver while a study ran in"
                raise FolderError(f"{self.where} {taken} {self._folder.path}")
            self._checked = time.monotonic()

    def finish(self) -> bool:
        """Copy everything, tables and figures included; whether all of it is there."""
        self._advanced = time.monotonic()
        self._ending.set()
        while self._thread.is_alive():
            self._thread.join(0.1)
            if time.monotonic() - self._advanced > (SIGNALLED_S if self._stop.signalled else END_S):
                break
        if self._lacking:
            self._warn(f"{self.where} lacks files of {self._folder.path} ({self._lacking})")
        return not self._lacking

    def end(self, code: int, command: str) -> int:
        """Copy everything, and print where it is; the exit code of a study that ended with `code`."""
        if not self._folder.exists():
            return code
        if self.finish():
            emit(f"A copy is at {self.where}")
        else:
            emit(f"Copy the rest with: {command}")
            code = Exit.ENVIRONMENT if code == Exit.DONE else code
        self.release()
        return code

    def release(self) -> None:
        """Leave the place to other drivers; one that does not answer is left as it is."""
        self._over.set()
        self._ending.set()
        leaving = threading.Thread(target=self._leave, daemon=True)
        leaving.start()
        leaving.join(LEAVE_S)

    def _leave(self) -> None:
        if self._thread.is_alive():
            self._thread.join()
        self._lease.beat(released=True)
        self._leases.close()


def _content(path: Path) -> bytes | None:
    try:
        return read_regular(path, LARGEST)
    except OSError:
        return None


def _state(path: Path) -> tuple[int, ...]:
    """What changes when a file is replaced, its size last; empty if there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


@contextmanager
def copied(options: Options, stop: Stop) -> Iterator[Callable[[Exit], Exit]]:
    """Copy a study while it runs; yields what its end is passed through, for the exit code.

    Raises:
        FolderError: as `Copy`.
    """
    name = options.name
    if not name:
        refuse(PROGRAM, f"--results is {options.results}, without --name; expected both where results are copied")
    folder, place = Folder(options.studies / name), place_at(options.results)
    _check_begun(options, folder, place)
    copy, command = Copy(place, folder, lambda why: warn(PROGRAM, why), stop), resume_command(options, name)
    stop.before_exit = lambda code: copy.end(code, command)
    try:
        yield lambda code: Exit(copy.end(code, command))
    except (OSError, FolderError):
        copy.end(Exit.ENVIRONMENT, command)
        raise
    finally:
        copy.release()


def _check_begun(options: Options, folder: Folder, place: Place) -> None:
    """Refuse what cannot be, before anything is written: a new study where one is, or the resume of none."""
    if options.space:
        space_of(options.space, options.protocol or DEFAULTS["protocol"])
    try:
        there = place.read(f"{folder.path.name}/study.json") is not None
        names = ", ".join(place.folders("")) or "none"
    except PlaceError as error:
        raise FolderError(f"{options.results} cannot be read ({error})") from None
    if there and not options.resume:
        advice = "add --resume to continue it, or choose another name"
        refuse(PROGRAM, f"--name is {options.name}; {options.results} has such a study already: {advice}")
    if options.resume and not (there or folder.exists()):
        refuse(PROGRAM, f"--name is {options.name}; expected a study in {options.results}: {names}")
