"""What lies in a store, as values: its chains, their sizes, when they were last of use, and who is at work there.

Files of which no store makes the like are not seen: nothing of anyone else's is ever deleted. Nothing here imports
torch.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from moe.store.leases import gone
from moe.store.manifest import Manifest, epochs_of, unseal
from moe.store.place import Place
from moe.store.session import DEAD_S

ATTEMPTS = 3  # at a chain whose manifest is replaced by a longer one between being listed and being read
WORKERS = 16  # threads that wait for a service's answers

_HEX = "[0-9a-f]"
_ADDRESS = re.compile(f"{_HEX}{{32}}")
HASHED = re.compile(rf"(?:says-\d{{4,}}-.+-)?({_HEX}{{64}})\.safetensors")
PARTIAL = re.compile(rf"\.partial-{_HEX}{{32}}")
_OTHERS = re.compile(r"lease-\d{4,}\.(json|beat)|used")
_TRACE = re.compile(rf"(probe-|\.partial-){_HEX}{{32}}")
_SESSION = re.compile(rf"{_HEX}{{32}}\.json")
_ASIDE = re.compile(f"{_HEX}{{8}}-.+")

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A chain's folder, which may lack a chain: as long as nothing is committed, or after a process was killed."""

    folder: str
    files: Mapping[str, int]  # sizes in bytes
    used: float | None  # when it was last of use, in seconds since 1970; None where it does not say
    manifests: tuple[Manifest, ...] = ()  # that with the most epochs first
    unreadable: bool = False  # there is a manifest that says nothing: damaged, or of another format

    @property
    def stage(self) -> str:
        """What was trained."""
        return self.folder.split("/")[0]

    @property
    def address(self) -> str:
        """The hash of what it was trained from."""
        return self.folder.split("/")[1]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(self.files.values())

    @property
    def epochs(self) -> int:
        """How many are stored."""
        return len(self.manifests[0].epochs) if self.manifests else 0

    @property
    def predictions(self) -> int:
        """How many files say what its networks say of some images."""
        return sum(name.startswith("says-") for name in self.files)


@dataclass(frozen=True, kw_only=True)
class Presence:
    """A process that is or was at work in a store, as its file in `sessions` says."""

    path: str
    bytes: int
    since: float  # what was used since then it needs
    beat: float  # when it last said that it is alive
    gone: bool = False  # it was of this machine, and is not there any more

    def alive(self, now: float) -> bool:
        """Whether it is taken to be at work still."""
        return not self.gone and now - self.beat < DEAD_S


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """All that lies in a store."""

    entries: tuple[Entry, ...]  # the most recently used first
    sessions: tuple[Presence, ...]
    aside: Mapping[str, int]  # sizes in bytes by path, of what was damaged
    traces: Mapping[str, int]  # likewise, of what killed processes left outside of the chains' folders


def take(place: Place) -> Inventory:
    """Read what lies in a store.

    Raises:
        PlaceError: the place cannot be read.
    """
    entries = in_parallel(partial(_entry, place), folders(place))
    aside = [f"aside/{folder}" for folder in _addresses(place, "aside/")]
    listed = in_parallel(lambda folder: _matching(place, folder, _ASIDE), aside)
    return Inventory(
        entries=tuple(sorted(entries, key=lambda entry: (-(entry.used or 0), entry.folder))),
        aside={path: size for paths in listed for path, size in paths.items()},
        traces=_matching(place, "", _TRACE) | _matching(place, "sessions", _TRACE),
        sessions=_sessions(place),  # last: whoever begins while the rest is read is seen
    )


def folders(place: Place) -> list[str]:
    """Where chains lie or may come to lie."""
    return _addresses(place, "")


def _addresses(place: Place, under: str) -> list[str]:
    """stage/address for each address below `under`, which is a folder with its / or nothing."""
    stages = place.folders(under.rstrip("/"))
    return [f"{stage}/{name}" for stage in stages for name in place.folders(under + stage) if _ADDRESS.fullmatch(name)]


def _matching(place: Place, folder: str, pattern: re.Pattern[str]) -> dict[str, int]:
    """The files of a folder with such names: their sizes by path."""
    start = f"{folder}/" if folder else ""
    return {f"{start}{name}": size for name, size in place.files(folder).items() if pattern.fullmatch(name)}


def _sessions(place: Place) -> tuple[Presence, ...]:
    found = in_parallel(lambda item: _presence(place, *item), _matching(place, "sessions", _SESSION).items())
    return tuple(presence for presence in found if presence)


def _presence(place: Place, path: str, size: int) -> Presence | None:
    if (content := place.read(path)) is None:  # it ended meanwhile
        return None
    since, beat, ended = 0.0, 0.0, False  # of one that is damaged: a process at work replaces it soon
    with suppress(ValueError, TypeError, KeyError):
        says = json.loads(content)
        since, beat, ended = float(says["since"]), float(says["beat"]), gone(says.get("owner", {}))
    return Presence(path=path, bytes=size, since=since, beat=beat, gone=ended)


def _entry(place: Place, folder: str) -> Entry:
    for _ in range(ATTEMPTS):
        files = {name: size for name, size in place.files(folder).items() if is_ours(name)}
        names = sorted((name for name in files if epochs_of(name) is not None), key=_epochs, reverse=True)
        sealed = [content for name in names if (content := place.read(f"{folder}/{name}")) is not None]
        if len(sealed) == len(names):
            break
    manifests = []
    for content in sealed:
        with suppress(ValueError):
            manifests.append(unseal(content))
    return Entry(
        folder=folder,
        files=files,
        used=used(place, folder) if "used" in files else None,
        manifests=tuple(manifests),
        unreadable=len(manifests) < len(names),
    )


def _epochs(name: str) -> int:
    return epochs_of(name) or 0


def is_ours(name: str) -> bool:
    """Whether a store gives such names to the files in a chain's folder."""
    return epochs_of(name) is not None or any(form.fullmatch(name) for form in (HASHED, PARTIAL, _OTHERS))


def used(place: Place, folder: str) -> float | None:
    """When a chain was last of use, in seconds since 1970; None where it does not say."""
    with suppress(ValueError):
        seconds = float(place.read(f"{folder}/used") or b"")
        return seconds if math.isfinite(seconds) else None
    return None


def in_parallel(function: Callable[[Item], Value], items: Iterable[Item]) -> Iterator[Value]:
    """What a function that waits for a service gives for each item, in their order."""
    pool = ThreadPoolExecutor(WORKERS)
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)
