"""A study's folder, copied from the cluster through the log of a job: nothing else comes back by the dashboard's URL.

    python -m study.cluster.fetch RESULTS NAME      on the cluster: the folder as a line of the log
    unpack(log, results, name)                      here: the folder from that line

Every file but weights and those whose names begin with a dot is sent. Here every file appears whole, study.json last.
A folder here that holds another study, has more runs or is in use stays as it is.
"""

import base64
import gzip
import io
import shutil
import sys
import tarfile
import tempfile
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from moe.console import Exit, fail
from study.folder import Folder, FolderError
from study.machine import ClusterError

LARGEST = 64 * 2**20  # bytes, compressed; a record takes a few kilobytes
WEIGHTS = (".pt", ".safetensors")

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
    """A study's folder as a compressed archive.

    Raises:
        ClusterError: there is no study in it, or it is too large for a log.
    """
    if not Folder(folder).exists():
        raise ClusterError(f"{folder} holds no study on the cluster")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for path in _sendable(folder):
            tar.add(path, arcname=path.relative_to(folder).as_posix(), recursive=False)
    if (size := archive.tell()) > LARGEST:
        raise ClusterError(
            f"{folder} has {size / 2**20:.0f} MiB, compressed; expected at most {LARGEST // 2**20}: copy it by other "
            "means"
        )
    return archive.getvalue()


def _sendable(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not path.is_symlink() and not hidden and path.suffix not in WEIGHTS:
            yield path


def unpack(log: str, results: Path, name: str) -> int:
    """Write the folder that a log holds to `results/name`; the number of files.

    Raises:
        ClusterError: what came is damaged.
        FolderError: the folder here holds another study, has more runs, is damaged or in use.
    """
    here = Folder(results / name)
    with tempfile.TemporaryDirectory(prefix="study-fetch-") as scratch:
        sent = Folder(Path(scratch) / name)
        _extract(_archive(log), sent.path)
        _check_sent(sent)
        _check_same(sent, here)
        found = [path.relative_to(sent.path) for path in _sendable(sent.path)]
        with here.locked():
            for path in sorted(found, key=lambda path: path == Path("study.json")):
                _copy(sent.path / path, here.path / path)
    return len(found)


def _archive(log: str) -> bytes:
    lines = [line for line in log.splitlines() if line.startswith(_PREFIX)]
    if not lines:
        raise ClusterError("the job on the cluster sent no folder")
    try:
        return base64.b64decode(lines[-1].removeprefix(_PREFIX), validate=True)
    except ValueError:
        raise ClusterError("the folder was damaged on the way; fetch it again") from None


def _extract(archive: bytes, folder: Path) -> None:
    """Extract the files of an archive, each inside the folder."""
    folder.mkdir()
    try:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive))) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if path.is_absolute() or not path.parts or any(part.startswith(".") for part in path.parts):
                    raise ClusterError(f"the cluster sent a file {member.name!r}; expected files inside the folder")
                if member.isfile() and (content := tar.extractfile(member)):
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).write_bytes(content.read())
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ClusterError(f"the folder was damaged on the way; fetch it again ({error})") from None


def _check_sent(sent: Folder) -> None:
    """A damaged record must not replace a good one."""
    try:
        sent.read_records(sent.read_study())
    except FolderError as error:
        raise ClusterError(f"on the cluster {str(error).replace(str(sent.path), sent.path.name)}") from None


def _check_same(sent: Folder, here: Folder) -> None:
    """Every run of the study here must be known there, so that nothing here is lost."""
    if not here.exists():
        return
    ours, theirs = here.read_runs(), sent.read_runs()
    if theirs[: len(ours)] != ours:
        what = "has more runs than on the cluster" if ours[:1] == theirs[:1] else "holds another study"
        raise FolderError(f"{here.path} {what}; choose another --results, or move it away")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        shutil.copyfile(source, partial)  # not synced: it can be fetched again
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
