"""Files that others may have written or replaced: only regular ones are read, up to a size; what is written is whole.

A pipe or a device could make a reader wait for ever, a sparse file fill its memory.
"""

import errno
import io
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER = "a folder"
_KINDS = {
    stat.S_IFDIR: FOLDER,
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link that leads nowhere",
}
#: flags of os.open, where the system has them
NONBLOCK, NOFOLLOW = getattr(os, "O_NONBLOCK", 0), getattr(os, "O_NOFOLLOW", 0)
PARTIAL = ".partial-"  # begins the name of a file that is being written
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # as file systems over object stores say
MOST_TEXT = 64 << 20  # bytes of a file of JSON, YAML or text


class NotRegularError(OSError):
    """What stands in place of a file is none that can be read; `strerror` says what it is."""


def open_regular(path: Path, most: int) -> io.BufferedReader:
    """A regular file of at most `most` bytes, open for reading.

    Raises:
        FileNotFoundError: there is none.
        NotRegularError: it is a folder, a pipe, a device, a link that leads nowhere, or too large.
        OSError: it cannot be read.
    """
    if (kind := irregular(path)) is not None:
        raise NotRegularError(0, f"it is {kind}, not a regular file", str(path))
    descriptor = os.open(path, os.O_RDONLY | NONBLOCK)  # it may have become a pipe meanwhile
    file = open(descriptor, "rb")  # noqa: SIM115 - the caller closes it
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > most:
        file.close()
        raise NotRegularError(0, f"it has {found.st_size:,} bytes, more than {most:,}", str(path))
    return file


def read_regular(path: Path, most: int = MOST_TEXT) -> bytes:
    """The content of a regular file; raises as `open_regular`."""
    with open_regular(path, most) as file:
        content = file.read(most + 1)  # it may have grown
    if len(content) > most:
        raise NotRegularError(0, f"it has more than {most:,} bytes", str(path))
    return content


def irregular(path: Path) -> str | None:
    """What stands at a path in place of a regular file, in words; None for one, also behind a link, and for nothing.

    Raises:
        OSError: that cannot be known, as in a folder without permission.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return _KINDS[stat.S_IFLNK] if path.is_symlink() else None
    except OSError:
        if path.is_symlink():  # in a circle
            return _KINDS[stat.S_IFLNK]
        raise
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "of another kind")


def expanded(path: str | Path) -> Path:
    """A path in which a leading ~ is the user's home folder; an unknown user's stays as it is."""
    return Path(os.path.expanduser(path))


def user_cache() -> Path:
    """`MOE_CACHE`, or else the user's cache folder."""
    import platformdirs

    return expanded(os.environ.get("MOE_CACHE") or platformdirs.user_cache_dir("moe"))


def replace_file(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file that appears whole and replaces what was there; a link is replaced, not followed."""
    with _partial(path, content, mode) as partial:
        partial.replace(path)


def create_file(path: Path, content: bytes, mode: int | None = None) -> bool:
    """Write a file that appears whole, unless something is there already; whether it was written."""
    with _partial(path, content, mode) as partial:
        try:
            _link(partial, path)
        except FileExistsError:
            return False
        return True


def _link(partial: Path, path: Path) -> None:
    try:
        os.link(partial, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        path.open("xb").close()  # without hard links, a reader may see an empty file for a moment
        partial.replace(path)


@contextmanager
def _partial(path: Path, content: bytes, mode: int | None) -> Iterator[Path]:
    """A file with the content beside its place; it is deleted afterwards."""
    partial = path.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
    try:
        with partial.open("xb") as file:
            if mode is not None:
                permit(file.fileno(), mode)
            file.write(content)
            file.flush()
            sync(file.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def permit(file: int | Path, mode: int) -> None:
    """Set permissions, where the file system has them."""
    with suppress(OSError):
        if stat.S_IMODE(os.stat(file).st_mode) != mode:
            os.chmod(file, mode)


def sync(descriptor: int) -> None:
    """Make what was written to a file or folder survive a power failure, where its file system can do that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def is_plain(name: str) -> bool:
    """Whether a name from a file or a server names something in a folder, and cannot lead out of it."""
    return name not in ("", ".", "..") and not {"/", "\\", "\0"} & {*name}
