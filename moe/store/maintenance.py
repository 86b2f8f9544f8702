"""What a store holds, whether it is whole, and what to delete so that it takes less room. No torch.

    read_entries(place) -> [Entry]      one for each chain
    find_damage(place, folder)          files that do not match their hash, manifests whose files are missing
    plan_gc([Entry]) -> Plan            what to delete (pure); delete(place, plan) does it

Files whose names no store would give are neither shown nor deleted.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from moe.store.files import PARTIAL, Place
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
_LEASE_OR_USE = re.compile(r"lease-\d{4,}\.(json|beat)|used")
_ASIDE = re.compile("[0-9a-f]{8}-.")

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A chain's folder. It has no manifest until the first commit."""

    folder: str
    files: Mapping[str, int]  # sizes in bytes
    used: float | None = None  # when it was last used, in seconds since 1970; None if unknown
    manifests: tuple[Manifest, ...] = ()  # that with the most epochs first
    unreadable: bool = False  # it has a manifest that is damaged or of another format

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(self.files.values())

    @property
    def epochs(self) -> int:
        """How many are stored."""
        return len(self.manifests[0].epochs) if self.manifests else 0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to delete."""

    chains: tuple[Entry, ...]  # the least recently used first
    leftovers: Mapping[str, int]  # sizes in bytes by path, of files that nobody needs
    kept: tuple[Entry, ...]


def folders(place: Place, under: str = "") -> list[str]:
    """The folders `<under><stage>/<address>`; `under` is empty or ends in /."""
    stages = [f"{under}{stage}" for stage in place.folders(under.rstrip("/"))]
    return [f"{stage}/{name}" for stage in stages for name in place.folders(stage) if _ADDRESS.fullmatch(name)]


def read_entries(place: Place) -> list[Entry]:
    """All chains, the most recently used first.

    Raises:
        PlaceError: the place cannot be read.
    """
    entries = in_parallel(partial(_read_entry, place), folders(place))
    return sorted((entry for entry in entries if entry.files), key=lambda entry: (-(entry.used or 0), entry.folder))


def _read_entry(place: Place, folder: str) -> Entry:
    files = {name: size for name, size in place.files(folder).items() if _is_ours(name)}
    manifests, unreadable = list[Manifest](), False
    for name in filter(epochs_of, files):
        try:
            content = read_verified(place, folder, name)
            manifests += [unseal(content)] if content else []
        except (DamagedError, OtherFormatError):
            unreadable = True
    manifests.sort(key=lambda manifest: len(manifest.epochs), reverse=True)
    used = _used(place, folder)  # after the files: who has replaced one has written a use before
    return Entry(folder=folder, files=files, used=used, manifests=tuple(manifests), unreadable=unreadable)


def _is_ours(name: str) -> bool:
    return is_hashed(name) or bool(_PARTIAL.fullmatch(name) or _LEASE_OR_USE.fullmatch(name))


def _used(place: Place, folder: str) -> float | None:
    with suppress(ValueError):
        seconds = float(place.read(f"{folder}/used") or b"")
        return seconds if 0 <= seconds < _LAST_YEAR_S else None
    return None


def read_aside(place: Place) -> dict[str, int]:
    """The damaged files that were set aside: their sizes in bytes by path."""
    names = folders(place, "aside/")
    listed = zip(names, in_parallel(place.files, names), strict=True)
    return {f"{folder}/{name}": size for folder, files in listed for name, size in files.items() if _ASIDE.match(name)}


def find_damage(place: Place, folder: str) -> tuple[dict[str, int], dict[str, str]]:
    """Compare the files of a chain with their hashes: sizes of all that were compared, and what is wrong with some.

    Raises:
        PlaceError: the place cannot be read.
    """
    sizes, faults, manifests = dict[str, int](), dict[str, str](), list[Manifest]()
    for name, size in place.files(folder).items():
        try:
            content = read_verified(place, folder, name) if is_hashed(name) else None
        except OtherFormatError:
            continue
        except DamagedError as error:
            sizes[name], faults[name] = size, str(error)
            continue
        if content is not None:
            sizes[name] = size
            manifests += [unseal(content)] if epochs_of(name) is not None else []
    present = place.files(folder)
    for manifest in manifests:
        lacking = {name for name in manifest.files if name in faults or name not in present}
        if lacking and manifest.name in present:  # else a longer chain has replaced it
            faults[manifest.name] = f"it needs what is damaged or missing: {', '.join(sorted(lacking))}"
    return sizes, faults


def plan_gc(entries: Iterable[Entry], aside: Mapping[str, int], max_bytes: int, now: float) -> Plan:
    """Choose what to delete so that the chains take at most `max_bytes`, if what was used in the last day allows it.

    Args:
        now: in seconds since 1970.
    """
    kept, leftovers = [], dict(aside)
    for entry in entries:
        unneeded = {name for name in entry.files if not _in_use(entry, now) and not _needed(entry, name)}
        leftovers |= {f"{entry.folder}/{name}": entry.files[name] for name in unneeded}
        files = {name: size for name, size in entry.files.items() if name not in unneeded}
        kept += [replace(entry, files=files)] if files else []
    chains, left = [], sum(entry.bytes for entry in kept)
    for entry in sorted(kept, key=lambda entry: (entry.used or 0, entry.folder)):
        if left > max_bytes and not _in_use(entry, now):
            chains.append(entry)
            left -= entry.bytes
    gone = {entry.folder for entry in chains}
    kept = [entry for entry in kept if entry.folder not in gone]
    return Plan(chains=tuple(chains), leftovers=leftovers, kept=tuple(kept))


def _in_use(entry: Entry, now: float) -> bool:
    return entry.used is not None and entry.used > now - KEEP_S


def _needed(entry: Entry, name: str) -> bool:
    """Whether a file belongs to a chain that exists: not what a killed process left."""
    if entry.unreadable:
        return not _PARTIAL.fullmatch(name)
    if TENSORS.fullmatch(name) and not name.startswith(PREDICTIONS):
        return any(name in manifest.files for manifest in entry.manifests)
    return bool(entry.manifests) and not _PARTIAL.fullmatch(name)


def delete(place: Place, plan: Plan) -> tuple[list[Entry], list[Entry]]:
    """Delete what is planned: the chains deleted, and those that stay because they were used meanwhile.

    Raises:
        PlaceError: the place cannot be read or written; what is deleted until then is gone.
    """
    for _ in in_parallel(place.remove, plan.leftovers):
        pass
    deleted = in_parallel(partial(_delete_chain, place), plan.chains)
    outcome = list(zip(plan.chains, deleted, strict=True))
    return [entry for entry, gone in outcome if gone], [entry for entry, gone in outcome if not gone]


def _delete_chain(place: Place, entry: Entry) -> bool:
    """Delete a chain unless it was used since it was listed: its manifests first, so that no reader finds half."""
    if _used(place, entry.folder) != entry.used:
        return False

    def turn(name: str) -> int:
        return 0 if epochs_of(name) is not None else 2 if _LEASE_OR_USE.fullmatch(name) else 1

    for name in sorted(filter(_is_ours, place.files(entry.folder)), key=turn):
        place.remove(f"{entry.folder}/{name}")
    return True


def in_parallel(function: Callable[[Item], Value], items: Iterable[Item]) -> Iterator[Value]:
    """The function's values for all items, in their order, by threads that wait for a service."""
    pool = ThreadPoolExecutor(WORKERS)
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)
