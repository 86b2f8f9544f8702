"""What to delete so that a store takes less room: `plan_gc` chooses (pure), `delete` does it. No torch.

What is of a newer version or of others stays. What cannot be deleted is reported and does not keep the rest from it.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

from moe.store.files import Place, PlaceError
from moe.store.listing import LEASE, UNFINISHED, USE, Entry, attempt, in_parallel, is_ours, signs_of_use
from moe.store.locks import Timing, sign_of_life
from moe.store.manifest import PREDICTIONS, TENSORS, epochs_of

KEEP_S = 25 * 3600.0  # a day, as a running study may need it, and the hour in which another use is not written
PAUSE_S = 2 * Timing().beat_s  # in which a living trainer shows itself


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to delete."""

    chains: tuple[Entry, ...]  # the least recently used first
    leftovers: Mapping[str, int]  # sizes in bytes by path, of files that nobody needs
    signs: Mapping[str, Mapping[str, bytes | None]]  # by folder of such files, except those set aside
    kept: tuple[Entry, ...]


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
        return not UNFINISHED.fullmatch(name)
    if TENSORS.fullmatch(name) and not PREDICTIONS.fullmatch(name):
        return any(name in manifest.files for manifest in entry.manifests)
    return bool(entry.manifests) and not UNFINISHED.fullmatch(name)


@dataclass(frozen=True)
class Deleted:
    """What became of a plan."""

    chains: tuple[Entry, ...]
    leftovers: Mapping[str, int]  # sizes in bytes by path
    used: tuple[Entry, ...] = ()  # since they were listed, so that they stay
    errors: tuple[str, ...] = ()  # why something else stays


def delete(place: Place, plan: Plan, pause_s: float = PAUSE_S) -> Deleted:
    """Delete what is planned, except what is in folders that were used meanwhile.

    Args:
        pause_s: how long to watch for beats where a trainer may be alive.
    """
    by_folder = {folder: list(paths) for folder, paths in groupby(sorted(plan.leftovers), _folder)}
    signs = {folder: plan.signs[folder] for folder in by_folder.keys() & plan.signs.keys()}  # none of those set aside
    beats = _beats(place, {*signs, *(entry.folder for entry in plan.chains)})
    if beats:
        time.sleep(pause_s)
    is_used = partial(_is_used, place, beats)
    leftovers = [(signs.get(folder), paths) for folder, paths in by_folder.items()]
    outcomes = list(in_parallel(partial(attempt, partial(_delete_leftovers, place, is_used)), leftovers))
    removed = [each for found in outcomes for each in ([found] if isinstance(found, PlaceError) else found)]
    deleted = list(in_parallel(partial(attempt, partial(_delete_chain, place, is_used)), plan.chains))
    chains, used = (
        tuple(entry for entry, outcome in zip(plan.chains, deleted, strict=True) if outcome is wanted)
        for wanted in (True, False)
    )
    gone = {path: plan.leftovers[path] for path in removed if isinstance(path, str)}
    return Deleted(
        chains, gone, used, tuple(str(each) for each in (*removed, *deleted) if isinstance(each, PlaceError))
    )


def _beats(place: Place, folders: Iterable[str]) -> dict[str, object]:
    """The last beats where a trainer may be alive, by folder; or why that cannot be known."""
    names = sorted(folders)
    found = zip(names, in_parallel(partial(attempt, partial(sign_of_life, place)), names), strict=True)
    return {folder: beat for folder, beat in found if beat is not None}


def _is_used(
    place: Place, beats: Mapping[str, object], folder: str, signs: Mapping[str, bytes | None], names: Iterable[str]
) -> bool:
    """Whether a folder was used since it was listed, or a trainer has beaten, whatever its clock says of its use."""
    if signs_of_use(place, folder, names) != signs:
        return True
    return folder in beats and sign_of_life(place, folder) != beats[folder]


def _delete_leftovers(
    place: Place, is_used: Callable[..., bool], leftovers: tuple[Mapping[str, bytes | None] | None, list[str]]
) -> list[str | PlaceError]:
    """Delete the leftovers of a folder unless it was used since it was listed; their paths, or why one stays."""
    signs, paths = leftovers

    def remove(path: str) -> str:
        place.remove(path)
        return path

    folder = _folder(paths[0])
    if signs is not None and is_used(folder, signs, place.files(folder)):
        return []
    return [attempt(remove, path) for path in sorted(paths, key=_turn)]


def _delete_chain(place: Place, is_used: Callable[..., bool], entry: Entry) -> bool:
    """Delete a chain unless it was used since it was listed: its manifests first, so that no reader finds half."""
    names = place.files(entry.folder)
    if is_used(entry.folder, entry.signs, names):
        return False
    for name in sorted(filter(is_ours, names), key=_turn):
        place.remove(f"{entry.folder}/{name}")
    return True


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _turn(path: str) -> int:
    """Which files go first: manifests, and last what shows a use."""
    name = path.rpartition("/")[2]
    return 0 if epochs_of(name) is not None else 2 if LEASE.fullmatch(name) or USE.fullmatch(name) else 1
