"""What a store holds, and what to delete so that it takes less room. No torch.

    read_entries(place) -> [Entry]      one for each chain
    plan_gc([Entry]) -> Plan            what to delete (pure); delete(place, plan) does it

Files whose names no store would give are neither shown nor deleted, and so are the chains of a newer version. What
cannot be read or deleted is reported and does not keep the rest from being done.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import TypeVar

from moe.files import PARTIAL
from moe.store.files import Place, PlaceError
from moe.store.manifest import (
    PREDICTIONS,
    TENSORS,
    DamagedError,
    Manifest,
    OtherFormatError,
    epochs_of,
    is_hashed,
    read_verified,
    unseal,
)

KEEP_S = 25 * 3600.0  # a day, as a running study may need it, and the hour in which another use is not written
WORKERS = 16  # threads that wait for a service's answers
_LAST_YEAR_S = 1e11  # in seconds since 1970; a later time of use is damage

_ADDRESS = re.compile("[0-9a-f]{32}")
_PARTIAL = re.compile(rf"{re.escape(PARTIAL)}[0-9a-f]{{32}}")
_USE = re.compile(r"used-\d+")  # by user
_LEASE = re.compile(r"lease-\d{4,}\.(json|beat)")

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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to delete."""

    chains: tuple[Entry, ...]  # the least recently used first
    leftovers: Mapping[str, int]  # sizes in bytes by path, of files that nobody needs
    signs: Mapping[str, Mapping[str, bytes | None]]  # by folder of such files, except those set aside
    kept: tuple[Entry, ...]


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
        signs = _signs(place, folder, files)  # after the files: who has replaced one has written a use before
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
    return is_hashed(name) or any(form.fullmatch(name) for form in (_PARTIAL, _LEASE, _USE))


def _is_newer(name: str) -> bool:
    """Whether a later version may have given this name to a manifest."""
    return name.startswith(("chain", "manifest")) and not is_ours(name)


def _signs(place: Place, folder: str, names: Iterable[str]) -> dict[str, bytes | None]:
    """What a use of a chain changes: the notes of its use, with their content, and which leases there are."""
    notes = {name: place.read(f"{folder}/{name}") for name in names if _USE.fullmatch(name)}
    return {**notes, **{name: b"" for name in names if _LEASE.fullmatch(name)}}


def use_in(content: bytes | None) -> float | None:
    """The time in a file of the last use; None if it is damaged."""
    with suppress(ValueError):
        seconds = float(content or b"")
        return seconds if 0 <= seconds < _LAST_YEAR_S else None
    return None


def plan_gc(entries: Iterable[Entry], aside: Mapping[str, int], max_bytes: int, now: float) -> Plan:
    """Choose what to delete so that the chains take at most `max_bytes`, if what was used in the last day allows it.

    Args:
        now: in seconds since 1970.
    """
    kept, leftovers, signs = [], dict(aside), {}
    for entry in entries:
        unneeded = {name for name in entry.files if not _in_use(entry, now) and not _needed(entry, name)}
        leftovers |= {f"{entry.folder}/{name}": entry.files[name] for name in unneeded}
        signs[entry.folder] = entry.signs
        files = {name: size for name, size in entry.files.items() if name not in unneeded}
        kept += [replace(entry, files=files)] if files or entry.error else []
    chains, left = [], sum(entry.bytes for entry in kept)
    for entry in sorted(kept, key=lambda entry: (entry.used or 0, entry.folder)):
        if left > max_bytes and not _in_use(entry, now):
            chains.append(entry)
            left -= entry.bytes
    gone = {entry.folder for entry in chains}
    kept = [entry for entry in kept if entry.folder not in gone]
    return Plan(chains=tuple(chains), leftovers=leftovers, signs=signs, kept=tuple(kept))


def _in_use(entry: Entry, now: float) -> bool:
    recently = entry.used is not None and entry.used > now - KEEP_S
    return recently or entry.foreign or bool(entry.error)


def _needed(entry: Entry, name: str) -> bool:
    """Whether a file belongs to a chain that exists: not what a killed process left."""
    if entry.unreadable:
        return not _PARTIAL.fullmatch(name)
    if TENSORS.fullmatch(name) and not PREDICTIONS.fullmatch(name):
        return any(name in manifest.files for manifest in entry.manifests)
    return bool(entry.manifests) and not _PARTIAL.fullmatch(name)


@dataclass(frozen=True)
class Deleted:
    """What became of a plan."""

    chains: tuple[Entry, ...]
    leftovers: Mapping[str, int]  # sizes in bytes by path
    used: tuple[Entry, ...] = ()  # since they were listed, so that they stay
    errors: tuple[str, ...] = ()  # why something else stays


def delete(place: Place, plan: Plan) -> Deleted:
    """Delete what is planned, except what is in folders that were used meanwhile."""
    by_folder = groupby(sorted(plan.leftovers), lambda path: path.rpartition("/")[0])
    leftovers = [(plan.signs.get(folder), list(paths)) for folder, paths in by_folder]
    outcomes = list(in_parallel(partial(attempt, partial(_delete_leftovers, place)), leftovers))
    removed = [each for found in outcomes for each in ([found] if isinstance(found, PlaceError) else found)]
    deleted = list(in_parallel(partial(attempt, partial(_delete_chain, place)), plan.chains))
    chains, used = (
        tuple(entry for entry, outcome in zip(plan.chains, deleted, strict=True) if outcome is wanted)
        for wanted in (True, False)
    )
    gone = {path: plan.leftovers[path] for path in removed if isinstance(path, str)}
    return Deleted(
        chains, gone, used, tuple(str(each) for each in (*removed, *deleted) if isinstance(each, PlaceError))
    )


def attempt(operation: Callable[[Item], Value], item: Item) -> Value | PlaceError:
    """The operation's value, or why the place has none."""
    try:
        return operation(item)
    except PlaceError as error:
        return error


def _delete_leftovers(
    place: Place, leftovers: tuple[Mapping[str, bytes | None] | None, list[str]]
) -> list[str | PlaceError]:
    """Delete the leftovers of a folder unless it was used since it was listed; their paths, or why one stays."""
    signs, paths = leftovers

    def remove(path: str) -> str:
        place.remove(path)
        return path

    folder = paths[0].rpartition("/")[0]
    if signs is not None and _signs(place, folder, place.files(folder)) != signs:
        return []
    return [attempt(remove, path) for path in sorted(paths, key=_turn)]


def _delete_chain(place: Place, entry: Entry) -> bool:
    """Delete a chain unless it was used since it was listed: its manifests first, so that no reader finds half."""
    names = place.files(entry.folder)
    if _signs(place, entry.folder, names) != entry.signs:
        return False
    for name in sorted(filter(is_ours, names), key=_turn):
        place.remove(f"{entry.folder}/{name}")
    return True


def _turn(path: str) -> int:
    """Which files go first: manifests, and last what shows a use."""
    name = path.rpartition("/")[2]
    return 0 if epochs_of(name) is not None else 2 if _LEASE.fullmatch(name) or _USE.fullmatch(name) else 1


def in_parallel(function: Callable[[Item], Value], items: Iterable[Item]) -> Iterator[Value]:
    """The function's values for all items, in their order, by threads that wait for a service."""
    pool = ThreadPoolExecutor(WORKERS)
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)
