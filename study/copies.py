"""Copies of a study's folder on other machines: which files they have, and what of one may replace what of another."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from moe.files import read_regular
from moe.store.files import Local, Place, PlaceError
from study.files import decode_edited
from study.folder import Folder, FolderError
from study.options import NAME
from study.study import RUNNING, Record

LARGEST = 2**30  # bytes of a study
AT_ONCE = 16  # requests, where many files are fetched
WEIGHTS = (".pt", ".safetensors")
ELSEWHERE = "choose another --name, or move one of them away"


def download(place: Place, folder: Folder) -> set[str]:
    """Copy what a place has of a study to a folder with the study's name; the names of the files.

    Raises:
        PlaceError: the place cannot be read, or has more than a study.
    """
    sizes = dict(_listed(place, folder.path.name, ""))
    if sum(sizes.values()) > LARGEST:
        raise PlaceError(f"{place.name}/{folder.path.name} has more than {LARGEST // 2**20} MiB")
    here = Local(folder.path)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        contents = pool.map(lambda name: place.read(f"{folder.path.name}/{name}"), sizes)
        for name, content in zip(sizes, contents, strict=True):
            if content is not None:
                here.replace(name, content)
    return set(sizes)


def _listed(place: Place, study: str, folder: str) -> Iterator[tuple[str, int]]:
    """Names and sizes of the files of a study, its folders included; others than a study has are passed over."""
    for name, size in place.files(f"{study}/{folder}".rstrip("/")).items():
        if NAME.fullmatch(name) and PurePosixPath(name).suffix not in WEIGHTS:
            yield f"{folder}{name}", size
    for name in place.folders(f"{study}/{folder}".rstrip("/")):
        if NAME.fullmatch(name) and folder.count("/") < 8:
            yield from _listed(place, study, f"{folder}{name}/")


def to_take(there: Folder, here: Folder, where: str, names: set[str]) -> list[str]:
    """Which files to take from there, study.json last: those that lack here, and of each record the finished one.

    Raises:
        FolderError: the study here is another one, or a finished trial here is another one there.
    """
    ours, theirs = (folder.read_runs() if folder.exists() else () for folder in (here, there))
    if theirs[: len(ours)] != ours and ours[: len(theirs)] != theirs:
        raise FolderError(f"{here.path} holds another study than {where}; {ELSEWHERE}")
    wanted = [name for name in sorted(names) if not (here.path / name).exists()]
    for name in sorted(names):
        if not name.startswith("trials/") or name in wanted:
            continue
        known, other = finished(here.path / name), finished(there.path / name)
        if known and other and known != other:
            raise FolderError(f"{here.path / name} is another trial than behind {where}; {ELSEWHERE}")
        if not known:
            wanted.append(name)
    if len(theirs) > len(ours) and "study.json" not in wanted:
        wanted.append("study.json")
    return sorted(wanted, key=lambda name: name == "study.json")


def sendable(folder: Path) -> Iterator[Path]:
    """The files of a study that go to other machines: all but weights, and those whose names begin with a dot."""
    for path in sorted(folder.rglob("*")):
        plain = all(NAME.fullmatch(part) for part in path.relative_to(folder).parts)  # no dot first
        if path.is_file() and not path.is_symlink() and plain and path.suffix not in WEIGHTS:
            yield path


def finished(path: Path) -> Record | None:
    """The record of a finished trial; None for any other file, or none."""
    try:
        record = decode_edited(Record, read_regular(path))
    except (OSError, ValueError):
        return None
    return record if record.state != RUNNING else None
