"""Files by their path, in a local folder or behind a URL: what a store needs of the place where it is.

    Place: Local, Remote     read, create, replace, remove, files, folders; a failure raises PlaceError
    TolerantFiles            the same around a place, but a failure warns once and then costs time only

A file appears whole, and `create` never replaces one.
"""

import errno
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

PARTIAL = ".partial-"  # begins the name of a file that is being written
BACK_OFF = 10.0  # times as long as it took to fail: a slow service then costs a tenth of the time
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

Value = TypeVar("Value")
Default = TypeVar("Default")


class PlaceError(Exception):
    """A place cannot be read or written; the sentence begins with its name."""


@contextmanager
def _place_errors(name: str) -> Iterator[None]:
    """Raise every error of a file system or of a service's client as a PlaceError."""
    try:
        yield
    except OSError as error:
        raise PlaceError(f"{name}: {error.strerror or error or type(error).__name__}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise PlaceError(f"{name}: {type(error).__name__}: {reason}") from error


class Local:
    """A folder on this machine or on a network file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)

    def read(self, path: str) -> bytes | None:
        """A file's content; None if there is no such file."""
        with _place_errors(self.name), suppress(FileNotFoundError, NotADirectoryError):
            return (self.root / path).read_bytes()
        return None

    def create(self, path: str, content: bytes) -> bool:
        """Write a file unless it exists; whether it was written."""
        target = self.root / path
        with _place_errors(self.name), _partial(target, content) as partial:
            try:
                os.link(partial, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return _create_in_place(target, content)
            return True

    def replace(self, path: str, content: bytes) -> None:
        """Write a file, whether it exists or not."""
        target = self.root / path
        with _place_errors(self.name), _partial(target, content) as partial:
            partial.replace(target)

    def files(self, folder: str) -> dict[str, int]:
        """Names and sizes in bytes of the files directly in a folder."""
        sizes = {}
        with _place_errors(self.name):
            for entry in self._scan(folder):
                with suppress(FileNotFoundError):  # it was removed meanwhile
                    if entry.is_file():
                        sizes[entry.name] = entry.stat().st_size
        return sizes

    def folders(self, folder: str) -> list[str]:
        """Names of the folders directly in a folder."""
        with _place_errors(self.name):
            return sorted(entry.name for entry in self._scan(folder) if entry.is_dir())

    def _scan(self, folder: str) -> list["os.DirEntry[str]"]:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.root / folder) as entries:
            return list(entries)
        return []

    def remove(self, path: str) -> None:
        """Delete a file, if it exists."""
        with _place_errors(self.name):
            (self.root / path).unlink(missing_ok=True)


@contextmanager
def _partial(target: Path, content: bytes) -> Iterator[Path]:
    """A file with the content beside its target, deleted afterwards."""
    partial = target.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _create_in_place(target: Path, content: bytes) -> bool:
    """For file systems without hard links: a reader may see half of the file, and then its hash does not match."""
    try:
        with target.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


class Remote:
    """A URL that fsspec supports, such as s3://bucket/folder; credentials come from the environment."""

    def __init__(self, url: str) -> None:
        self.name = url

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        import fsspec

        system, root = fsspec.core.url_to_fs(self.name, use_listings_cache=False)
        return system, root.rstrip("/")

    def _at(self, path: str) -> tuple[Any, str]:
        system, root = self._opened
        return system, f"{root}/{path}".rstrip("/")

    def read(self, path: str) -> bytes | None:
        """A file's content; None if there is no such file."""
        with _place_errors(self.name), suppress(FileNotFoundError):
            system, at = self._at(path)
            return bytes(system.cat_file(at))
        return None

    def create(self, path: str, content: bytes) -> bool:
        """Write a file unless it exists; whether it was written."""
        with _place_errors(self.name), suppress(FileExistsError):
            self._write(path, content, mode="create")
            return True
        return False

    def replace(self, path: str, content: bytes) -> None:
        """Write a file, whether it exists or not."""
        with _place_errors(self.name):
            self._write(path, content)

    def _write(self, path: str, content: bytes, **mode: str) -> None:
        system, at = self._at(path)
        if "s3" not in system.protocol:  # which has no folders: making one only costs a request
            system.makedirs(at.rsplit("/", 1)[0], exist_ok=True)
        system.pipe_file(at, content, **mode)

    def files(self, folder: str) -> dict[str, int]:
        """Names and sizes in bytes of the files directly in a folder."""
        return self._list(folder, "file")

    def folders(self, folder: str) -> list[str]:
        """Names of the folders directly in a folder."""
        return sorted(self._list(folder, "directory"))

    def _list(self, folder: str, kind: str) -> dict[str, int]:
        with _place_errors(self.name), suppress(FileNotFoundError, NotADirectoryError):
            system, at = self._at(folder)
            system.invalidate_cache(at)
            listed = ((entry["name"].rstrip("/"), entry) for entry in system.ls(at, detail=True))
            return {
                path.rsplit("/", 1)[-1]: int(entry["size"] or 0)
                for path, entry in listed
                if entry["type"] == kind and path != at
            }
        return {}

    def remove(self, path: str) -> None:
        """Delete a file, if it exists."""
        with _place_errors(self.name), suppress(FileNotFoundError):
            system, at = self._at(path)
            system.rm_file(at)


Place = Local | Remote


class TolerantFiles:
    """A place whose failures cost time only: what cannot be read counts as absent, what cannot be written is dropped.

    The first failure to read and the first to write are warned of. After a failure that kind of operation is not
    tried for a while.

    Args:
        warn: called with a sentence.
        rest_s: the longest such while.
    """

    def __init__(self, place: Place, warn: Callable[[str], None], rest_s: float) -> None:
        self.place = place
        self._warn = warn
        self._rest_s = rest_s
        self._rests_until: dict[str, float] = {}  # by kind of operation
        self._warned: set[str] = set()
        self._lock = threading.Lock()

    def read(self, path: str) -> bytes | None:
        """A file's content; None if there is none or it cannot be read."""
        return self._try("read", lambda: self.place.read(path), None)

    def files(self, folder: str) -> Mapping[str, int]:
        """Names and sizes of the files directly in a folder; none if it cannot be read."""
        return self._try("read", lambda: self.place.files(folder), {})

    def create(self, path: str, content: bytes) -> bool | None:
        """Whether the file was written and is the first; None if that is not known."""
        return self._try("written", lambda: self.place.create(path, content), None)

    def replace(self, path: str, content: bytes) -> bool:
        """Whether the file was written."""
        return self._try("written", lambda: self.place.replace(path, content), False) is None

    def remove(self, path: str) -> bool:
        """Whether the file is gone."""
        return self._try("written", lambda: self.place.remove(path), False) is None

    def move(self, path: str, to: str) -> bool:
        """Whether the file is at its new path alone."""
        content = self.read(path)
        return content is not None and self.replace(to, content) and self.remove(path)

    def _try(self, kind: str, operation: Callable[[], Value], default: Default) -> Value | Default:
        began = time.monotonic()
        if began < self._rests_until.get(kind, 0):
            return default
        try:
            return operation()
        except PlaceError as error:
            ended = time.monotonic()
            self._rests_until[kind] = ended + min(self._rest_s, BACK_OFF * (ended - began))
            self.warn_once(kind, f"the store cannot be {kind} ({error}); what it lacks is trained again")
            return default

    def warn_once(self, kind: str, sentence: str) -> None:
        """Warn, unless a warning of this kind was given before."""
        with self._lock:
            if kind in self._warned:
                return
            self._warned.add(kind)
        self._warn(sentence)
