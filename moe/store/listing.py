"""What a store holds, one `Entry` for each chain. No torch.

Files whose names no store would give are not shown, and what cannot be read does not keep the rest from it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from moe.files import PARTIAL
from moe.store.files import Place, PlaceError
from moe.store.manifest import (
    DamagedError,
    Manifest,
    OtherFormatError,
    epochs_of,
    is_hashed,
    read_verified,
    unseal,
)

WORKERS = 16  # threads that wait for a service's answers
_LAST_YEAR_S = 1e11  # in seconds since 1970; a later time of use is damage

_ADDRESS = re.compile("[0-9a-f]{32}")
UNFINISHED = re.compile(rf"{re.escape(PARTIAL)}[0-9a-f]{{32}}")
USE = re.compile(r"used-\d+")  # by user
LEASE = re.compile(r"lease-\d{4,}\.(json|beat)")

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A chain's folder. It has no manifest until the first commit."""

    folder: str
    files: Mapping[str, int]  # sizes in bytes
    used: float | None = None  # when it was last used, in seconds since 1970; None if unknown
    signs: Mapping[str, bytes | None] = field(default_factory=dict)  # what a use of it changes, as of the listing
    manifests: tuple[Manifest, ...] = ()  # that with the most epochs first
    unreadable: bool = False  # it has a manifest that is damaged or of another format
    foreign: bool = False  # it has a manifest of a newer version, to which the whole chain is left
    error: str = ""  # why it cannot be listed or read, if so; then it is left alone too

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(self.files.values())

    @property
    def epochs(self) -> int:
        """How many are stored."""
        return len(self.manifests[0].epochs) if self.manifests else 0

    @property
    def stopped(self) -> bool:
        """Whether patience ended the chain."""
        return bool(self.manifests) and self.manifests[0].end is None


def folders(place: Place, under: str = "") -> tuple[list[str], dict[str, str]]:
    """The folders `<under><stage>/<address>`, and why those of a stage cannot be listed; `under` is empty or ends in /.

    Raises:
        PlaceError: the stages cannot be listed.
    """
    found, unread = list[str](), dict[str, str]()
    for name in place.folders(under.rstrip("/")):
        stage = f"{under}{name}"
        if stage == "aside":
            continue
        try:
            found += [f"{stage}/{address}" for address in place.folders(stage) if _ADDRESS.fullmatch(address)]
        except PlaceError as error:
            unread[stage] = str(error)
    return found, unread


def read_entries(place: Place) -> list[Entry]:
    """All chains, the most recently used first; one with an error for each stage whose chains cannot be listed.

    Raises:
        PlaceError: the place cannot be read.
    """
    names, unread = folders(place)
    entries = in_parallel(partial(_read_entry, place), names)
    listed = [entry for entry in entries if entry.files or entry.error]
    listed += [Entry(folder=stage, files={}, error=error) for stage, error in unread.items()]
    return sorted(listed, key=lambda entry: (-(entry.used or 0), entry.folder))


def _read_entry(place: Place, folder: str) -> Entry:
    try:
        names = place.files(folder)
        files = {name: size for name, size in names.items() if is_ours(name)}
        manifests, unreadable, foreign = list[Manifest](), False, any(map(_is_newer, names))
        for name in filter(epochs_of, files):
            try:
                content = read_verified(place, folder, name)
                manifests += [unseal(content)] if content else []
            except DamagedError:
                unreadable = True
            except OtherFormatError:
                unreadable = foreign = True
        signs = signs_of_use(place, folder, files)  # after the files: who has replaced one has written a use before
    except PlaceError as error:
        return Entry(folder=folder, files={}, error=str(error))
    found = tuple(sorted(manifests, key=lambda manifest: len(manifest.epochs), reverse=True))
    times = [seconds for content in signs.values() if (seconds := use_in(content)) is not None]
    return Entry(
        folder=folder,
        files=files,
        used=max(times, default=None),
        signs=signs,
        manifests=found,
        unreadable=unreadable,
        foreign=foreign,
    )


def is_ours(name: str) -> bool:
    """Whether a store would give this name to a file of a chain."""
    return is_hashed(name) or any(form.fullmatch(name) for form in (UNFINISHED, LEASE, USE))


def _is_newer(name: str) -> bool:
    """Whether a later version may have given this name to a manifest."""
    return name.startswith(("chain", "manifest")) and not is_ours(name)


def signs_of_use(place: Place, folder: str, names: Iterable[str]) -> dict[str, bytes | None]:
    """What a use of a chain changes: the notes of its use, with their content, and which leases there are."""
    notes = {name: place.read(f"{folder}/{name}") for name in names if USE.fullmatch(name)}
    return {**notes, **{name: b"" for name in names if LEASE.fullmatch(name)}}


def use_in(content: bytes | None) -> float | None:
    """The time in a file of the last use; None if it is damaged."""
    with suppress(ValueError):
        seconds = float(content or b"")
        return seconds if 0 <= seconds < _LAST_YEAR_S else None
    return None


def attempt(operation: Callable[[Item], Value], item: Item) -> Value | PlaceError:
    """The operation's value, or why the place has none."""
    try:
        return operation(item)
    except PlaceError as error:
        return error


def in_parallel(function: Callable[[Item], Value], items: Iterable[Item]) -> Iterator[Value]:
    """The function's values for all items, in their order, by threads that wait for a service."""
    pool = ThreadPoolExecutor(WORKERS)
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)
