"""A study's folder from the cluster, written here: every file whole, the study's definition last.

A folder here that holds another study, or has gone on since, is left alone, and so is one that a driver works in.
"""

import base64
import hashlib
import io
import json
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from study.folder import Folder, FolderError
from study.machine import ClusterError


def unpack(answer: dict[str, Any], folder: Folder) -> int:
    """Write what `sending` answered into a folder; the number of files.

    Raises:
        ClusterError: the cluster could not send it, or it is damaged.
        FolderError: the folder holds another study, has gone on since, is damaged or in use.
    """
    files = dict(contents(answer))
    sent = _study(files.get("study.json", b""))
    if sent is None:
        raise ClusterError("what came of the cluster holds no study.json that can be read; look at the folder there")
    check_same(sent, folder)
    check_records(files)
    with folder.locked():
        for name in sorted(files, key=lambda name: name == "study.json"):
            _write(folder.path / name, files[name])
    return len(files)


def contents(answer: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The files of an archive by their path in the study's folder."""
    if "error" in answer:
        raise ClusterError(answer["error"])
    archive = base64.b64decode(answer["tar"])
    if hashlib.sha256(archive).hexdigest() != answer["sha256"]:
        raise ClusterError("what came of the study's folder was damaged on the way; fetch it again")
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            if member.isfile() and (file := tar.extractfile(member)):
                yield _inside(member.name), file.read()


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or any(part.startswith(".") for part in path.parts):
        raise ClusterError(f"the cluster sent a file {name!r}; expected files inside the study's folder")
    return name


def check_same(sent: dict[str, Any], folder: Folder) -> None:
    """Refuse to lose what is here: of a study in the folder, every run must be known there.

    Raises:
        FolderError: it holds another study, or runs that are not among the sent ones, or is damaged.
    """
    if not folder.exists():
        return
    here = _study(folder.definition.read_bytes())
    if here is None:
        raise FolderError(f"{folder.definition} is damaged; move {folder.path} away, or choose another --results")
    ours, theirs = here["runs"], sent["runs"]
    if theirs[: len(ours)] != ours:
        what = "has gone on here since" if ours[:1] == theirs[:1] else "holds another study"
        raise FolderError(f"{folder.path} {what}; choose another --results, or move it away")


def check_records(files: dict[str, bytes]) -> None:
    """A damaged record there must not replace a good one here.

    Raises:
        ClusterError: one is damaged.
    """
    for name, content in files.items():
        path = PurePosixPath(name)
        if path.parent.name == "trials" and path.suffix == ".json" and "trial" not in (_entries(content) or {}):
            raise ClusterError(f"{name} is damaged there; move it away there and fetch again")


def _study(content: bytes) -> dict[str, Any] | None:
    """What study.json says; None where it is damaged."""
    entries = _entries(content)
    return entries if entries and isinstance(entries.get("runs"), list) else None


def _entries(content: bytes) -> dict[str, Any] | None:
    try:
        entries = json.loads(content)
    except ValueError:  # no JSON, or no text at all
        return None
    return entries if isinstance(entries, dict) else None


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        partial.write_bytes(content)  # not synced: it can be fetched again
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
