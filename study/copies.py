"""Copies of a study's folder on other machines: which files they have, and what of one may replace what of another."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath

from moe.files import read_regular
from moe.store.files import Local, Place, PlaceError
from study.confirm.plan import is_confirmation, scored_since
from study.files import decode_edited
from study.folder import Folder, FolderError, file_name
from study.options import NAME
from study.study import RUNNING, Record

LARGEST = 2**30  # bytes of a study
AT_ONCE = 16  # requests, where many files are fetched
WEIGHTS = (".pt", ".safetensors")
NOT_COPIED = ("resume.txt",)  # it is true for one machine, until the study is done
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
        if _travels(name):
            yield f"{folder}{name}", size
    for name in place.folders(f"{study}/{folder}".rstrip("/")):
        if NAME.fullmatch(name) and folder.count("/") < 8:
            yield from _listed(place, study, f"{folder}{name}/")


def _travels(name: str) -> bool:
    return bool(NAME.fullmatch(name)) and PurePosixPath(name).suffix not in WEIGHTS and name not in NOT_COPIED


def to_take(there: Folder, records: Sequence[Record], here: Folder, where: str, names: set[str]) -> list[str]:
    """Which files to take from there, study.json last: those that lack here, and what has ended or was scored there.

    Raises:
        FolderError: the study here is another one, or is damaged, or a finished trial here is another one there.
    """
    ours, theirs = (folder.read_runs() if folder.exists() else () for folder in (here, there))
    if theirs[: len(ours)] != ours and ours[: len(theirs)] != theirs:
        how = "was continued otherwise than" if ours[:1] == theirs[:1] else "holds another study than"
        raise FolderError(f"{here.path} {how} {where}; {ELSEWHERE}")
    known = {_name(record): record for record in here.read_records(here.read_study())} if here.exists() else {}
    others = {_name(record): record for record in records}
    for name in known.keys() & others.keys():
        if known[name] != others[name] and RUNNING not in (known[name].state, others[name].state):
            raise FolderError(f"{here.path / name} is another trial than behind {where}; {ELSEWHERE}")
    wanted = {name for name in names if not os.path.lexists(here.path / name)}
    wanted |= {name for name, record in known.items() if record.state == RUNNING and name in others}
    wanted |= {name for name in names if _scored_there(here.path / name, there.path / name)}
    wanted = {name for name in wanted if not _of_another_plan(name, here.path, there.path)}
    if len(theirs) > len(ours):
        wanted.add("study.json")
    return sorted(wanted, key=lambda name: (name == "study.json", name))


def _of_another_plan(name: str, here: Path, there: Path) -> bool:
    """Whether a file is of a confirmation that was planned anew here."""
    folder = name.partition("/")[0]
    if not is_confirmation(folder):
        return False
    with suppress(OSError):
        return read_regular(here / folder / "plan.json") != read_regular(there / folder / "plan.json")
    return False


def _scored_there(here: Path, there: Path) -> bool:
    with suppress(OSError):
        return is_confirmation(here.parent.name) and scored_since(read_regular(here), read_regular(there))
    return False


def _name(record: Record) -> str:
    return f"trials/{file_name(record.trial)}"


def sendable(folder: Path) -> Iterator[Path]:
    """The files of a study that go to other machines: all but weights, and those whose names begin with a dot."""
    for path in sorted(folder.rglob("*")):
        plain = all(NAME.fullmatch(part) for part in path.relative_to(folder).parts)  # no dot first
        if path.is_file() and not path.is_symlink() and plain and _travels(path.name):
            yield path


def finished(content: bytes) -> Record | None:
    """The record of a finished trial in a file; None where that holds something else."""
    try:
        record = decode_edited(Record, content)
    except ValueError:
        return None
    return record if record.state != RUNNING else None
