"""Making room in a store: the chains that were not of use for longest go first, and whatever serves nobody goes.

    Inventory --plan--> Plan: which chains, which files (pure) --carry_out--> Freed

What a process at work needs stays: all that was used since the study that it serves began. A chain goes manifests
first, so that at any moment a reader finds it whole or not at all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from moe.store.inventory import PARTIAL, Entry, Inventory, Presence, in_parallel, is_ours, used
from moe.store.manifest import epochs_of
from moe.store.place import Place

SLACK_S = 60.0  # by which the clocks of two machines may differ
FORGOTTEN_S = 24 * 3600.0  # without a beat for so long, a session's file is of no use to anyone


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to delete."""

    evicted: tuple[Entry, ...]  # the least recently used first
    kept: tuple[Entry, ...]
    leftovers: dict[str, int]  # sizes in bytes by path, of files outside of what is evicted or kept
    empty: tuple[str, ...]  # folders without a file of ours
    running: int  # processes at work


@dataclass(frozen=True)
class Freed:
    """What was deleted."""

    chains: tuple[Entry, ...]
    spared: tuple[Entry, ...]  # that came into use meanwhile


def plan(inventory: Inventory, max_bytes: int, now: float) -> Plan:
    """Decide what to delete so that the chains take at most `max_bytes`."""
    sessions, spare = inventory.sessions, leftovers(inventory, now)
    entries = [_without(entry, spare) for entry in inventory.entries]
    chains = [entry for entry in entries if entry.files]
    evicted = choose(chains, sessions, max_bytes, now)
    going = {entry.folder for entry in evicted}
    return Plan(
        evicted=tuple(evicted),
        kept=tuple(entry for entry in chains if entry.folder not in going),
        leftovers=spare,
        empty=tuple(entry.folder for entry in entries if not entry.files and not protected(entry, sessions, now)),
        running=sum(session.alive(now) for session in sessions),
    )


def choose(entries: Sequence[Entry], sessions: Sequence[Presence], max_bytes: int, now: float) -> list[Entry]:
    """The chains to evict, the least recently used first, so that the others take at most `max_bytes`, if that can be.

    Args:
        entries: all chains.
        sessions: dead ones too.
        max_bytes: 0 or more.
        now: in seconds since 1970.
    """
    left = sum(entry.bytes for entry in entries)
    chosen = []
    for entry in sorted(entries, key=lambda entry: (entry.used or 0, entry.folder)):
        if left <= max_bytes:
            break
        if not protected(entry, sessions, now):
            chosen.append(entry)
            left -= entry.bytes
    return chosen


def protected(entry: Entry, sessions: Sequence[Presence], now: float) -> bool:
    """Whether a process at work may need a chain."""
    since = min((session.since for session in sessions if session.alive(now)), default=None)
    if since is None:
        return False
    return entry.used is None or entry.used >= since - SLACK_S  # without a sign of use it may just be in the making


def leftovers(inventory: Inventory, now: float) -> dict[str, int]:
    """The files that serve nobody: their sizes by path. What may be in the making is none while anyone is at work."""
    found = dict(inventory.aside)
    found |= {session.path: session.bytes for session in inventory.sessions if now - session.beat > FORGOTTEN_S}
    if not any(session.alive(now) for session in inventory.sessions):
        found |= inventory.traces
        for entry in inventory.entries:
            found |= {f"{entry.folder}/{name}": entry.files[name] for name in _unneeded(entry)}
    return found


def _unneeded(entry: Entry) -> Iterator[str]:
    """The files in a chain's folder that no manifest there refers to, and all where there is none."""
    if not entry.manifests and not entry.unreadable:
        yield from entry.files
        return
    needed = {content.file for manifest in entry.manifests for content in manifest.contents}
    for name in entry.files:
        content = name.endswith(".safetensors") and not name.startswith("says-")
        if PARTIAL.fullmatch(name) or (content and name not in needed and not entry.unreadable):
            yield name


def _without(entry: Entry, spare: dict[str, int]) -> Entry:
    files = {name: size for name, size in entry.files.items() if f"{entry.folder}/{name}" not in spare}
    return replace(entry, files=files)


def carry_out(place: Place, plan: Plan) -> Freed:
    """Delete what is planned.

    Raises:
        PlaceError: the place cannot be read or written; what is gone until then is gone.
    """
    for _ in in_parallel(place.remove, plan.leftovers):
        pass
    gone = list(zip(plan.evicted, in_parallel(partial(evict, place), plan.evicted), strict=True))
    for folder in {"sessions", *plan.empty, *(path.rpartition("/")[0] for path in plan.leftovers)}:
        place.prune(folder)
    return Freed(*(tuple(entry for entry, done in gone if done is which) for which in (True, False)))


def evict(place: Place, entry: Entry) -> bool:
    """Delete a chain, unless it was used after it was listed; whether it was deleted."""
    if used(place, entry.folder) != entry.used:
        return False
    for name in sorted(filter(is_ours, place.files(entry.folder)), key=_turn):
        place.remove(f"{entry.folder}/{name}")
    place.prune(entry.folder)
    return True


def _turn(name: str) -> int:
    """When a file of a chain goes: its manifests first, signs of use and of life last."""
    if epochs_of(name) is not None:
        return 0
    return 2 if name == "used" or name.startswith("lease-") else 1
