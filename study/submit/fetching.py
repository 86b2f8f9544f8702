"""A study's folder from the cluster, written here: every file whole, the study's definition last.

A folder here that holds another study is left alone, and so is one that a driver works in.
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

from study.machine import ClusterError
from study.records import Folder, FolderError


def unpack(answer: dict[str, Any], folder: Folder) -> int:
    """Write what `sending` answered into a folder; the number of files.

    Raises:
        ClusterError: the cluster could not send it, or it was damaged on the way.
        FolderError: the folder holds another study, or is in use.
    """
    files = dict(contents(answer))
    check_same(json.loads(files["study.json"]), folder)
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
    if path.is_absolute() or ".." in path.parts:
        raise ClusterError(f"the cluster sent a file {name!r}; expected files inside the study's folder")
    return name


def check_same(sent: dict[str, Any], folder: Folder) -> None:
    """Refuse to mix two studies: that of the folder, if there is one, must have begun with the same run.

    Raises:
        FolderError: it has not.
    """
    if not folder.exists():
        return
    here = json.loads(folder.definition.read_text("utf-8"))
    if here["runs"][:1] != sent["runs"][:1]:
        raise FolderError(f"{folder.path} holds another study; choose another --results, or move it away")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        partial.write_bytes(content)  # not synced: it can be fetched again
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
