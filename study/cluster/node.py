"""What is looked at on each node of a cluster. Plain functions, no Ray: the probe runs them there."""

import os
import platform
import re
import socket
import time
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEAD = "head"
LOOK_AGAIN_S = 5.0  # a network file system may show a new file late
DOWNLOAD_S = 5.0
OLD_S = 3600.0  # after which the files of a probe are nobody's


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a node is asked."""

    places: dict[str, str]  # what each is for, and where: a path or a URL
    dataset: str
    folder: str | None  # with CIFAR-10
    mark: str  # the folder in each place that the head node wrote its file in
    content: bytes  # of that file


def look(question: Question, node: str) -> dict[str, Any]:
    """What this node has; every entry is for `checks.judge`.

    Args:
        question: the same for all nodes.
        node: this one's id, as part of a path.
    """
    found: dict[str, Any] = {"host": socket.gethostname(), "python": platform.python_version()}
    try:
        import moe.pipeline
        import moe.store.store  # noqa: F401
    except ImportError as error:
        return found | {"lacks": str(error)}
    places = {use: meet(location, question, node) for use, location in question.places.items()}
    return found | {"lacks": None, "places": places, "data": data(question.dataset, question.folder)}


def meet(location: str, question: Question, node: str) -> str | None:
    """Read in a place what the head node wrote there, and write the same; why that could not be done."""
    unseen = read_mark(location, question, HEAD)
    return (
        f"does not see what the head node wrote there{unseen}"
        if unseen is not None
        else (write_mark(location, question, node))
    )


def write_mark(location: str, question: Question, who: str) -> str | None:
    """Write a file for others to find; why it could not be done."""
    from moe.store.files import PlaceError
    from moe.store.location import place_at

    try:
        place_at(location).replace(f"{question.mark}/{who}", question.content)
    except PlaceError as error:
        return f"cannot write there: {error}"
    return None


def read_mark(location: str, question: Question, who: str) -> str | None:
    """Find the file that another node has just written; where it is not, the reason if there is one, else ""."""
    from moe.store.files import PlaceError
    from moe.store.location import place_at

    end = time.monotonic() + LOOK_AGAIN_S
    try:
        while (content := place_at(location).read(f"{question.mark}/{who}")) is None and time.monotonic() < end:
            time.sleep(0.5)
    except PlaceError as error:
        return f": {error}"
    return None if content == question.content else ""


def new_mark() -> str:
    """A folder's name that tells when it was made."""
    return f".probe-{int(time.time())}-{uuid.uuid4().hex}"


def wipe(location: str, mark: str) -> None:
    """Remove every file that was written under a mark."""
    from moe.store.location import place_at

    place = place_at(location)
    for name in place.files(mark):
        place.remove(f"{mark}/{name}")


def wipe_old(location: str) -> None:
    """Remove what probes left that were killed."""
    from moe.store.location import place_at

    for name in place_at(location).folders(""):
        made = re.fullmatch(r"\.probe-(\d+)-[0-9a-f]{32}", name)
        if made and time.time() - int(made[1]) > OLD_S:
            wipe(location, name)


def missing(location: str) -> list[Path]:
    """The folders that a path needs and that are not there, the innermost first; none where it is a URL."""
    path = Path(location)
    return [] if "://" in location else [folder for folder in (path, *path.parents) if not folder.exists()]


def data(dataset: str, folder: str | None) -> dict[str, Any]:
    """Which data set this node can read now: `has`, its name or None, and why."""
    from moe.data import DataError, cifar10
    from moe.data.cache import default_folder, load

    if dataset == "shapes":
        return {"has": "shapes", "why": "drawn by code"}
    try:
        if folder:
            return {"has": "cifar10", "why": cifar10.find(Path(folder)).where}
    except DataError as error:
        return {"has": None, "why": str(error)}
    if load(default_folder(), cifar10.OFFICIAL):
        return {"has": "cifar10", "why": f"the cache {default_folder()}"}
    return {"has": None, "why": f"CIFAR-10 is not in the cache {default_folder()}"}


def data_folder(named: str | None, dataset: str) -> str | None:
    """Where the driver will look for CIFAR-10; None for the cache or the network."""
    folder = None if dataset == "shapes" else named or os.environ.get("CIFAR10_DIR")
    return str(Path(folder).resolve()) if folder else None


def downloadable() -> bool:
    """Whether the archive of CIFAR-10 can be had from here."""
    from moe.data import cifar10

    request = urllib.request.Request(cifar10.online().where, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=DOWNLOAD_S):
            return True
    except (OSError, ValueError):
        return False
