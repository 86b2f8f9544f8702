"""Whether what lies in a store is whole: its files against their hashes, and manifests against what they need."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moe.store.inventory import HASHED
from moe.store.manifest import Manifest, digest, epochs_of, unseal
from moe.store.place import Place


@dataclass(frozen=True)
class Damage:
    """Files that have to go, together: with what a manifest needs, the manifest."""

    folder: str
    names: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Checked:
    """What came of a look at a chain's files."""

    files: int
    bytes: int
    damages: tuple[Damage, ...]


@dataclass(frozen=True)
class _Look:
    bytes: int
    manifest: Manifest | None = None  # of a file that is one
    fault: str = ""


def check(place: Place, folder: str) -> Checked:
    """Compare each file of a chain that has a hash with it, and see that no manifest lacks what it needs.

    Raises:
        PlaceError: the place cannot be read.
    """
    names = [name for name in place.files(folder) if epochs_of(name) is not None or HASHED.fullmatch(name)]
    looks = {name: look for name in names if (look := _look(place, folder, name))}
    damages = list(_incomplete(place, folder, looks))
    gone = {name for damage in damages for name in damage.names}
    damages += [Damage(folder, (name,), look.fault) for name, look in looks.items() if look.fault and name not in gone]
    return Checked(len(looks), sum(look.bytes for look in looks.values()), tuple(damages))


def _look(place: Place, folder: str, name: str) -> _Look | None:
    """Read and judge a file; None where it went meanwhile."""
    fault = ""
    for _ in range(2):  # what a network garbled once, it may deliver the next time
        content = place.read(f"{folder}/{name}")
        if content is None:
            return None
        size = len(content)
        try:
            return _Look(size, _verified(folder, name, content))
        except ValueError as error:
            fault = str(error)
    return _Look(size, fault=fault)


def _verified(folder: str, name: str, content: bytes) -> Manifest | None:
    """The manifest, where it is one.

    Raises:
        ValueError: it does not match its hash, or lies in the wrong place.
    """
    if found := HASHED.fullmatch(name):
        if digest(content) != found[1]:
            raise ValueError("it does not match its hash")
        return None
    manifest = unseal(content)
    if manifest.name != name or _folder_of(manifest.spec) != folder:
        raise ValueError("it belongs to another chain")
    return manifest


def _folder_of(spec: dict[str, Any]) -> str:
    """Where the chain of a spec lies, as `Spec.address` has it, from the JSON that a manifest holds."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{spec.get('stage')}/{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _incomplete(place: Place, folder: str, looks: Mapping[str, _Look]) -> Iterator[Damage]:
    """The manifests that need what is damaged or missing, with what of that is there."""
    for manifest in (look.manifest for look in looks.values() if look.manifest):
        needed = sorted(content.file for content in manifest.contents)
        if all(name in looks and not looks[name].fault for name in needed):
            continue
        there = place.files(folder)
        if manifest.name not in there:  # a longer one replaced it meanwhile
            continue
        damaged = [name for name in needed if name in looks and looks[name].fault]
        missing = [name for name in needed if name not in there]
        faults = [*(f"{name} is damaged" for name in damaged), *(f"{name} is missing" for name in missing)]
        if faults:
            yield Damage(folder, (manifest.name, *damaged), " and ".join(faults))
