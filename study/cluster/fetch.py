"""A study's folder, copied from the cluster through the log of a job: nothing else comes back by the dashboard's URL.

    python -m study.cluster.fetch RESULTS NAME      on the cluster: the folder as a line of the log
    receive(log, None, results, name)               here: the folder from that line

Every file but weights and those whose names begin with a dot is sent. Here every file appears whole, study.json last.
A folder here that holds another study, has more runs or is in use stays as it is, and so does one with a finished
trial that is another one there.
"""

import base64
import io
import lzma
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from moe.console import Exit, emit, fail
from moe.files import read_regular
from moe.store.files import Local
from moe.store.location import place_at
from study.confirm.plan import scored_since
from study.copies import download, finished, sendable
from study.folder import Folder, FolderError
from study.machine import ClusterError
from study.study import Record

LARGEST = 64 * 2**20  # bytes, compressed; a record takes a few kilobytes
LARGEST_UNPACKED = 2**30
MOST_FILES = 1_000_000

_ELSEWHERE = "choose another --results, or move it away"
_PREFIX = "study folder: "  # of the line with the archive


def main(words: list[str]) -> int:
    """Print a study's folder as a line; the exit code."""
    try:
        archive = pack(Path(words[0]) / words[1])
    except (ClusterError, OSError) as error:
        return fail("fetch", str(error))
    print(f"\n{_PREFIX}{base64.b64encode(archive).decode()}", flush=True)
    return Exit.DONE


def pack(folder: Path) -> bytes:
    """A study's folder as a compressed archive; raises a `ClusterError` if it holds no study, or too much for a log."""
    if not Folder(folder).exists():
        raise ClusterError(f"{folder} holds no study on the cluster")
    paths = list(sendable(folder))
    _check_size(folder, sum(path.stat().st_size for path in paths), LARGEST_UNPACKED)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as packed:
        for path in paths:
            packed.write(path, path.relative_to(folder))
    _check_size(folder, archive.tell(), LARGEST)
    return archive.getvalue()


def _check_size(folder: Path, size: int, limit: int) -> None:
    if size > limit:
        advice = f"expected at most {limit // 2**20}: copy it by other means"
        raise ClusterError(f"{folder} has {size / 2**20:.0f} MiB to send; {advice}")


def receive(log: str, failure: str | None, results: Path, name: str) -> Exit:
    """Write the folder that a job printed, unless that failed, and print where it is; raises as `receive_archive`."""
    if failure is not None:
        raise ClusterError((log.strip() or failure).rpartition("\n")[2][:300])
    return receive_archive(archive_in(log), results, name)


def receive_archive(archive: bytes, results: Path, name: str) -> Exit:
    """Write the folder in an archive to `results/name`, and print where it is.

    Raises:
        ClusterError: what came is damaged.
        FolderError: the folder here holds another study, has more runs, is damaged or in use.
    """
    return _save(lambda folder: _extract(archive, folder), results, name)


def archive_in(log: str) -> bytes:
    """The archive that a log holds; raises a `ClusterError` if it holds none."""
    lines = [line for line in log.splitlines() if line.startswith(_PREFIX)]
    if not lines:
        raise ClusterError("the job on the cluster sent no folder")
    try:
        return base64.b64decode(lines[-1].removeprefix(_PREFIX), validate=True)
    except ValueError as error:
        raise _damaged(error) from None


def _damaged(error: Exception) -> ClusterError:
    return ClusterError(f"the folder was damaged on the way; fetch it again ({error})")


def receive_remote(url: str, results: Path, name: str) -> Exit:
    """Write the folder behind a URL, and print where it is; raises as `receive_archive`, or a PlaceError."""
    place = place_at(url)

    def get(folder: Path) -> None:
        if not download(place, Folder(folder)):
            raise ClusterError(f"{url} has no study {name}")

    return _save(get, results, name)


def _save(get: Callable[[Path], None], results: Path, name: str) -> Exit:
    here = Folder(results / name)
    with tempfile.TemporaryDirectory(prefix="study-fetch-") as scratch:
        sent = Folder(Path(scratch) / name)
        get(sent.path)
        _check_sent(sent)
        found = list(sendable(sent.path))
        with here.locked():
            _check_same(sent, here)
            for path in sorted(found, key=lambda path: path == sent.definition):
                at = path.relative_to(sent.path)
                _check_inside(here.path / at, here.path)
                Local(here.path).replace(at.as_posix(), path.read_bytes())
    emit(f"Study {name}: {len(found)} files in {here.path}")
    return Exit.DONE


def _extract(archive: bytes, folder: Path) -> None:
    """Extract an archive; `zipfile` keeps every file inside the folder."""
    try:
        packed = zipfile.ZipFile(io.BytesIO(archive))
        entries = packed.infolist()
        if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > LARGEST_UNPACKED:
            raise ClusterError(f"the folder has {len(entries)} files and is too large; copy it by other means")
        packed.extractall(folder)  # of each file no more than its size above
    except (ValueError, zipfile.BadZipFile, RuntimeError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(error) from None
    except OSError as error:
        if error.errno is None:  # of bz2, about its input
            raise _damaged(error) from None
        raise ClusterError(f"{folder} cannot be written: {error.strerror}; TMPDIR names another place") from None


def _check_sent(sent: Folder) -> None:
    """A damaged record must not replace a good one."""
    try:
        sent.read_records(sent.read_study())
    except FolderError as error:
        raise ClusterError(f"the fetched {str(error).replace(str(sent.path), sent.path.name)}") from None


def _check_same(sent: Folder, here: Folder) -> None:
    """Every run, finished trial and confirmation here must be known there, so that nothing here is lost."""
    if not here.exists():
        return
    ours, theirs = here.read_runs(), sent.read_runs()
    if theirs[: len(ours)] != ours:
        what = "has more runs than the fetched one" if ours[:1] == theirs[:1] else "holds another study"
        raise FolderError(f"{here.path} {what}; {_ELSEWHERE}")
    for path in sent.trials.glob("*.json"):
        if (known := _finished(here.trials / path.name)) and known != _finished(path):
            raise FolderError(f"{here.trials / path.name} is another trial than the fetched one; {_ELSEWHERE}")
    for path in sent.path.glob("confirm*/*.json"):
        kept = here.path / path.relative_to(sent.path)
        if not kept.exists():
            continue
        before, now = read_regular(kept), read_regular(path)
        if before != now and not scored_since(before, now):
            raise FolderError(f"{kept} is of another confirmation than the fetched one; {_ELSEWHERE}")


def _finished(path: Path) -> Record | None:
    """The record of a finished trial; None for any other file, or none."""
    with suppress(OSError):
        return finished(read_regular(path))
    return None


def _check_inside(path: Path, folder: Path) -> None:
    """Raise if a link here leads a path out of the folder."""
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise FolderError(f"{path.parent} leads out of {folder}; expected a folder: move the link away")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
