"""A place that is a folder, on this machine or on a network file system."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from moe.store.place import as_place_errors

PARTIAL = ".partial-"
ATTEMPTS = 5  # at a file in a folder that another may delete just then
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class Local:
    """A folder, and what is below it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)

    def exclusive(self) -> bool:
        """POSIX, and NFS from version 3 on, see to that."""
        return True

    def read(self, path: str) -> bytes | None:
        """A file's content; None where there is no such file."""
        with as_place_errors(self.name):
            try:
                return (self.root / path).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def create(self, path: str, content: bytes) -> bool:
        """Write a file unless there is one; whether it was written."""
        target = self.root / path
        with as_place_errors(self.name), self._partial(target, content) as partial:
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
        """Write a file, whether there is one or not."""
        target = self.root / path
        with as_place_errors(self.name), self._partial(target, content) as partial:
            partial.replace(target)

    @contextmanager
    def _partial(self, target: Path, content: bytes) -> Iterator[Path]:
        """The content in a file beside its target, gone afterwards."""
        partial = target.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
        try:
            with _opened(partial) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield partial
        finally:
            partial.unlink(missing_ok=True)

    def files(self, folder: str) -> dict[str, int]:
        """The files right in a folder, with their sizes in bytes."""
        with as_place_errors(self.name):
            return {entry.name: size for entry in self._entries(folder) if (size := _file_size(entry)) is not None}

    def folders(self, folder: str) -> list[str]:
        """The folders right in a folder."""
        with as_place_errors(self.name):
            return sorted(entry.name for entry in self._entries(folder) if entry.is_dir())

    def _entries(self, folder: str) -> list["os.DirEntry[str]"]:
        try:
            with os.scandir(self.root / folder) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def move(self, path: str, to: str) -> None:
        """Give a file another path; nothing happens where there is none."""
        with as_place_errors(self.name):
            target = self.root / to
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                (self.root / path).rename(target)
            except FileNotFoundError:
                if (self.root / path).exists():  # it is the target's folder that went
                    raise

    def remove(self, path: str) -> None:
        """Delete a file; nothing happens where there is none."""
        with as_place_errors(self.name):
            (self.root / path).unlink(missing_ok=True)

    def prune(self, folder: str) -> None:
        """Delete a folder that holds nothing, and those above it, up to the root, that then hold nothing."""
        path = self.root / folder
        with suppress(OSError):  # something is in it, or it cannot be deleted: an empty folder does no harm
            while path != self.root:
                with suppress(FileNotFoundError):
                    path.rmdir()
                path = path.parent


def _opened(path: Path) -> BinaryIO:
    """A new file in a folder that is made if need be, and again if someone prunes it just then."""
    for _ in range(ATTEMPTS - 1):
        with suppress(FileNotFoundError, FileExistsError):  # the latter where mkdir finds it and then does not
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("wb")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def _create_in_place(target: Path, content: bytes) -> bool:
    """For file systems without hard links: a reader may see half of it, which its hash will tell."""
    try:
        with target.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _file_size(entry: "os.DirEntry[str]") -> int | None:
    try:
        return entry.stat().st_size if entry.is_file() else None
    except FileNotFoundError:  # it went meanwhile
        return None
