"""Whether a chain is whole, and what was set aside. No torch.

    find_damage(place, folder)      files that do not match their hash, what is no file, manifests that lack files
    read_aside(place)               the damaged files that were set aside

What cannot be read is reported and is no damage.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from moe.files import FOLDER
from moe.store.files import Place, PlaceError
from moe.store.listing import attempt, folders, in_parallel, is_ours
from moe.store.manifest import (
    PREDICTIONS,
    DamagedError,
    Manifest,
    OtherFormatError,
    epochs_of,
    is_hashed,
    read_predictions,
    read_verified,
    unseal,
)

_ASIDE = re.compile("[0-9a-f]{8}-.")


@dataclass(frozen=True)
class Findings:
    """What `find_damage` found in a chain."""

    sizes: dict[str, int]  # in bytes, of all files that were compared
    faults: dict[str, str]  # what is wrong with some
    unread: dict[str, str]  # why others could not be read, which is no damage


def find_damage(place: Place, folder: str) -> Findings:
    """Compare the files of a chain with their hashes."""
    found, manifests = Findings({}, {}, {}), list[Manifest]()

    def check(name: str, read: Callable[[], bytes | None]) -> None:
        try:
            if (content := read()) is not None:
                found.sizes[name] = names[name]
                manifests.extend([unseal(content)] if epochs_of(name) is not None else [])
        except OtherFormatError:
            pass
        except DamagedError as error:
            found.sizes[name], found.faults[name] = names[name], str(error)
        except PlaceError as error:
            found.unread[name] = str(error)

    try:
        names = place.files(folder)
        irregular = {name: kind for name, kind in place.irregular(folder).items() if is_ours(name)}
        found.faults.update({name: f"it is {kind}; expected a file" for name, kind in irregular.items()})
        for name in names:
            if is_hashed(name) and not PREDICTIONS.fullmatch(name):
                check(name, partial(read_verified, place, folder, name))
        weights = {epoch: content for manifest in manifests for epoch, content in manifest.weights.items()}
        for name in names:
            if (form := PREDICTIONS.fullmatch(name)) and (content := weights.get(int(form[1]))):
                check(name, partial(read_predictions, place, folder, name, content))
        present = place.files(folder)
    except PlaceError as error:
        found.unread[""] = str(error)
        return found
    for manifest in manifests:
        lacking = {name for name in manifest.files if name in found.faults or name not in {**present, **found.unread}}
        if lacking and manifest.name in present:  # else a longer chain has replaced it
            found.faults[manifest.name] = f"it needs what is damaged or missing: {', '.join(sorted(lacking))}"
    return found


def read_aside(place: Place, warn: Callable[[str], object] = lambda _: None) -> dict[str, int]:
    """The damaged files that were set aside: their sizes in bytes by path.

    Args:
        warn: called with why some cannot be listed.
    """
    try:
        names, unread = folders(place, "aside/")
    except PlaceError as error:
        names, unread = [], {"aside": str(error)}
    sizes = dict[str, int]()
    listed = in_parallel(partial(attempt, partial(_read_aside, place)), names)
    for folder, files in zip(names, listed, strict=True):
        if isinstance(files, PlaceError):
            unread[folder] = str(files)
        else:
            sizes |= {f"{folder}/{name}": size for name, size in files.items() if _ASIDE.match(name)}
    for sentence in unread.values():
        warn(sentence)
    return sizes


def _read_aside(place: Place, folder: str) -> dict[str, int]:
    others = {name: 0 for name, kind in place.irregular(folder).items() if kind != FOLDER}
    return {**others, **place.files(folder)}
