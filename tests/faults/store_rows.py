"""Faults of the stage store: names and links out of it, predictions, other versions."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import torch

from moe.stages import Checkpoint
from moe.store.entries import folder_of
from moe.store.manifest import canonical, digest
from moe.store.store import Store
from moe.store.tensors import pack
from tests.faults.store_scene import CHAIN, CHECKPOINT, PATTERNS, PREDICTED, SPEC, age, command, train
from tests.faults.table import Fault
from tests.store_helpers import AT_ONCE, a_spec, advance, same

OTHERS = {"log_probs": torch.zeros(2, 10)}


def predictions(root: Path, checkpoint: Checkpoint = CHECKPOINT, images: str = "stop") -> tuple[object, list[str]]:
    """What the store has for a checkpoint and images, and the warnings."""
    warned: list[str] = []
    with Store(str(root), warn=warned.append, timing=AT_ONCE) as store:
        return store.load_predictions(checkpoint, images), warned


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files below a folder, with what is in them."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# A2: names and links


def planted_manifest(name: str, folder: Path) -> None:
    """A manifest names a file outside of the store."""
    root, victim = folder / "store", folder / f"{'a' * 64}.safetensors"
    victim.write_bytes(b"mine")
    train(root, 2)
    path = next((root / CHAIN).glob("chain-*.json"))
    fields = json.loads(path.read_text())
    del fields["sha256"]
    fields["weights"]["1"]["sha256"] = name.replace("{}", "a" * 64)
    path.write_text(json.dumps({"sha256": digest(canonical(fields)), **fields}))
    shutil.copy(path, path.with_name("chain-0001.json"))
    train(root, 3)
    command(root, "verify")
    age(root)
    command(root, "gc", "--max-bytes", "0")
    assert victim.read_bytes() == b"mine"


def link_out(place: str, folder: Path) -> None:
    """A folder of the store is a link to one outside, which has files with our names."""
    root, outside = folder / "store", folder / "outside"
    train(root, 2)
    inside = root / place.format(chain=CHAIN, stage=SPEC.stage)
    outside.mkdir()
    if inside.exists():
        shutil.copytree(inside, outside, dirs_exist_ok=True)
        shutil.rmtree(inside)
    else:
        inside.parent.mkdir(parents=True, exist_ok=True)
        (outside / "file").write_text("mine")
    for path in outside.rglob("*.safetensors"):
        path.write_bytes(b"mine")
    inside.symlink_to(outside)
    before = snapshot(outside)
    train(root, 3)
    command(root, "ls")
    command(root, "verify")
    age(root)
    command(root, "gc", "--max-bytes", "0")
    assert snapshot(outside) == before


def linked_file(pattern: str, folder: Path) -> None:
    """A file of a chain is a link to one outside."""
    root, victim = folder / "store", folder / "mine"
    train(root, 2)
    victim.write_bytes(b"mine")
    for path in (root / CHAIN).glob(pattern):
        path.unlink()
        path.symlink_to(victim)
    train(root, 3)
    command(root, "verify")
    age(root)
    command(root, "gc", "--max-bytes", "0")
    assert victim.read_bytes() == b"mine"


# A5: predictions


def renamed_predictions(make: Callable[[Path, Path], object], folder: Path) -> None:
    """Predictions are replaced by others, under a name with their own hash."""
    root = folder / "store"
    train(root, 3)
    (path,) = (root / CHAIN).glob("predictions-*")
    make(root, path)
    found, warned = predictions(root)
    assert found is None or same(found, PREDICTED)
    assert warned or found is not None
    again = folder / "again"
    shutil.copytree(root, again)
    assert command(again, "verify")[0] == (5 if not warned and found is None else command(again, "verify")[0])


def own_hash(root: Path, path: Path) -> None:
    path.unlink()
    packed = pack(OTHERS)
    path.with_name(f"predictions-0002-stop-{digest(packed)}.safetensors").write_bytes(packed)


def overwritten(root: Path, path: Path) -> None:
    path.write_bytes(pack(OTHERS))


def of_another_chain(root: Path, path: Path) -> None:
    other = a_spec(seed=1)
    train(root, 3, other)
    path.unlink()
    (theirs,) = (root / folder_of(other)).glob("predictions-*")
    shutil.copy(theirs, path.with_name(theirs.name))


def of_other_images(root: Path, path: Path) -> None:
    with Store(str(root), timing=AT_ONCE) as store:
        store.chain(SPEC)
        store.save_predictions(CHECKPOINT, "train", OTHERS)
    theirs = next((root / CHAIN).glob("predictions-0002-train-*"))
    theirs.replace(path.with_name(theirs.name.replace("-train-", "-stop-")))
    path.unlink()


def of_other_weights(root: Path, path: Path) -> None:
    kept = path.read_bytes()
    shutil.rmtree(path.parent)
    with Store(str(root), timing=AT_ONCE) as store:
        advance(store, SPEC, 3, bits=1.0)
    path.write_bytes(kept)


def verify_names_them(folder: Path) -> None:
    """`verify` finds replaced predictions as well."""
    root = folder / "store"
    train(root, 3)
    own_hash(root, next((root / CHAIN).glob("predictions-*")))
    code, printed = command(root, "verify")
    assert code == 5
    assert "predictions-0002-stop-" in printed


# A6: versions


def later_format(how: str, folder: Path) -> None:
    """A chain of a later version lies in the store."""
    root = folder / "store"
    train(root, 2)
    path = next((root / CHAIN).glob("chain-*.json"))
    fields = {**json.loads(path.read_text()), "format": 99}
    if how == "another name":
        path = path.rename(path.with_name("chain-0002-v99.cbor"))
        path.write_bytes(b"\x00other")
    elif how == "another seal":
        path.write_text(json.dumps({**fields, "sha256": {"blake3": "x"}}))
    else:
        del fields["sha256"]
        path.write_text(json.dumps({"sha256": digest(canonical(fields)), **fields}))
    before = snapshot(root)
    age(root)
    assert command(root, "verify")[0] == 0
    assert command(root, "gc", "--max-bytes", "0")[0] == 0
    assert {name: content for name, content in snapshot(root).items() if "used" not in name} == {
        name: content for name, content in before.items() if "used" not in name
    }


def two_versions(folder: Path) -> None:
    """Another version uses the store at the same time."""
    root = folder / "store"
    train(root, 3)
    with mock.patch("moe.store.manifest.FORMAT", 99):
        later = a_spec()
        assert later.address != SPEC.address
        assert train(root, 3, later) == []
    with Store(str(root), timing=AT_ONCE) as store:
        assert len(store.chain(SPEC).epochs) == 3


OUTSIDE = "nothing outside is written or deleted"


FAULTS = (
    *(
        Fault("A2", f"a manifest names {name}", "moe.store", OUTSIDE, partial(planted_manifest, name))
        for name in ("../../../{}", "/tmp/{}", "..", "{}\n", "{}/../../{}")
    ),
    *(
        Fault("A2", f"{place} is a link out of the store", "moe.store", OUTSIDE, partial(link_out, place))
        for place in ("{chain}", "{stage}", "aside", "aside/{stage}", "aside/{chain}")
    ),
    *(
        Fault("A2", f"{what} is a link to a file outside", "moe.store", OUTSIDE, partial(linked_file, pattern))
        for what, pattern in PATTERNS.items()
    ),
    *(
        Fault("A5", f"predictions are {what}", "moe.store", "never used", partial(renamed_predictions, make))
        for what, make in (
            ("others, named by their own hash", own_hash),
            ("written over", overwritten),
            ("those of another chain", of_another_chain),
            ("those of other images", of_other_images),
            ("those of other weights", of_other_weights),
        )
    ),
    Fault("A5", "predictions are others, named by their own hash", "verify", "named, exit 5", verify_names_them),
    *(
        Fault("A6", f"a later version's chain with {how}", "verify, gc", "left alone", partial(later_format, how))
        for how in ("the same seal", "another seal", "another name")
    ),
    Fault("A6", "two versions on one store", "moe.store", "each finds its own chains", two_versions),
)
