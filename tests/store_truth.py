"""What a place really holds, read without the store: which epochs of a chain are whole, and what a step touches."""

import contextlib
import json
import os
import uuid
from pathlib import Path

import fsspec
from hypothesis.stateful import RuleBasedStateMachine, invariant
from moto.s3.models import s3_backends

from moe.store.entries import folder_of
from moe.store.files import Local, Place
from moe.store.location import place_at
from moe.store.manifest import (
    PREDICTIONS,
    TENSORS,
    DamagedError,
    Manifest,
    OtherFormatError,
    canonical,
    digest,
    epochs_of,
    predictions_name,
    unseal,
)
from tests.store_helpers import a_spec

SPECS = (a_spec(), a_spec("gate").replace(patience=2))  # the second one ends after four epochs
FOLDERS = tuple(map(folder_of, SPECS))


def contents(place: Place) -> dict[str, bytes]:
    """Everything at a place and beside it, by path."""
    if isinstance(place, Local):
        root = str(place.root)
        found = {str(path): _kept(path) for path in place.root.parent.rglob("*")}
    else:
        system, root = fsspec.core.url_to_fs(place.name, use_listings_cache=False)
        above = os.path.dirname(root)
        if place.name.startswith("s3:"):  # out of the server, which is in this process: a request takes 10 ms
            keys = s3_backends["123456789012"]["aws"].buckets["bucket"].keys.items()
            found = {f"bucket/{name}": key.value for name, key in keys if f"bucket/{name}".startswith(above)}
        else:
            found = system.cat(system.find(above))
    return {os.path.relpath(path, root): content for path, content in found.items() if content is not None}


def _kept(path: Path) -> bytes | None:
    """What is at a path of a file system; None for a folder, unless it stands in place of a file."""
    if path.is_symlink():
        return b"a link"
    return path.read_bytes() if path.is_file() else b"a folder" if {*".-"} & {*path.name} else None


def remove(place: Place, path: str) -> None:
    """Delete a file, or a folder in place of one."""
    if isinstance(place, Local) and (place.root / path).is_dir():
        (place.root / path).rmdir()
    else:
        place.remove(path)


def truth(folder: str, disk: dict[str, bytes]) -> tuple[int, bool]:
    """How many epochs of a chain are whole, and whether nothing of it is damaged."""
    files = {os.path.basename(path): content for path, content in disk.items() if os.path.dirname(path) == folder}
    manifests, sound = _manifests(files)
    sound &= b"a folder" not in files.values()
    whole = 0
    for name, manifest in manifests.items():
        complete = (manifest.folder, manifest.name) == (folder, name)
        complete &= all(digest(files.get(file, b"")) == file[:64] for file in manifest.files)
        sound &= complete
        whole = max(whole, len(manifest.epochs) if complete else 0)
    weights = {epoch: content for manifest in manifests.values() for epoch, content in manifest.weights.items()}
    for name, content in files.items():
        if form := PREDICTIONS.fullmatch(name):
            of = weights.get(int(form[1]))
            sound &= of is None or name == predictions_name(folder, int(form[1]), form[2], of, content)
        elif form := TENSORS.fullmatch(name):
            sound &= digest(content) == form[1]
    return whole, sound


def _manifests(files: dict[str, bytes]) -> tuple[dict[str, Manifest], bool]:
    """Those of this version by name, and whether all others are of another one."""
    found, sound = {}, True
    for name, content in files.items():
        if epochs_of(name) is not None:
            try:
                found[name] = unseal(content)
            except OtherFormatError:
                pass
            except DamagedError:
                sound = False
    return found, sound


class Watched(RuleBasedStateMachine):
    """A place with two chains, files of others and a chain of a newer version; each step is compared with before."""

    def __init__(self, above):
        super().__init__()
        above = f"{above}/{uuid.uuid4().hex}"
        self.place, self.warned = place_at(f"{above}/store"), []
        self.others = {"../beside": b"mine"}  # files that nothing may touch, by path
        place_at(above).replace("beside", b"mine")
        for path in ("notes.txt", "photos/2024/used", f"{FOLDERS[0]}/notes.txt", f"aside/{FOLDERS[0]}/me"):
            self.put_another(path, b"mine")
        self.put_newer(f"baseline/{'9' * 32}", "chain-0003.json")
        self.disk = contents(self.place)

    def put_another(self, path, content):
        self.others[path] = content
        self.place.replace(path, content)

    def put_newer(self, folder, name):
        """The files of a chain of a newer version."""
        fields = {"format": 9, "name": name}
        sealed = json.dumps({"sha256": digest(canonical(fields)), **fields}).encode()
        self.put_another(f"{folder}/{name}", sealed)
        self.put_another(f"{folder}/{digest(sealed)}.safetensors", sealed)

    def of(self, which, under=""):
        """What there is of a chain, by path."""
        return {path: content for path, content in self.disk.items() if path.startswith(f"{under}{FOLDERS[which]}/")}

    @contextlib.contextmanager
    def touching(self, *touched, may_lose=()):
        """Do something to some chains: what was whole of them stays, and nothing sound is set aside."""
        before = [(*truth(folder, self.disk), self.of(n), self.of(n, "aside/")) for n, folder in enumerate(FOLDERS)]
        self.warned.clear()
        yield [sound for _, sound, *_ in before]
        self.disk = contents(self.place)
        for n, (whole, sound, files, aside) in enumerate(before):
            if n not in touched:
                assert (files, aside) == (self.of(n), self.of(n, "aside/"))
            elif n not in may_lose and sound:
                assert truth(FOLDERS[n], self.disk)[0] >= whole
                assert self.of(n, "aside/").items() <= aside.items(), self.warned

    @invariant()
    def nothing_else_is_touched(self):
        folders = [f"{under}{folder}/" for folder in FOLDERS for under in ("", "aside/")]
        ours = {path for path in self.disk if path.startswith(tuple(folders))}
        assert {path: self.disk.get(path) for path in self.others} == self.others
        assert self.disk.keys() - ours <= self.others.keys()
