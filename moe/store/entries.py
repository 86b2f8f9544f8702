"""What lies in a store, read and written: manifests, content, and what networks said. Nothing unverified gets out.

    newest(spec) -> load(...)       a manifest that matches its hash, then content that matches its own
    put(...) -> publish(manifest)   content first, the manifest last

What does not match is set aside, with a warning that names it, and is then as good as never written.
"""

import dataclasses
import json
import threading
import uuid
from collections.abc import Callable
from typing import Any

from moe.stages import Checkpoint, Spec
from moe.store.care import Care
from moe.store.manifest import Content, Manifest, OtherFormatError, digest, epochs_of, seal, unseal
from moe.store.tensors import State, pack, unpack

ATTEMPTS = 3  # at a chain whose manifest is replaced by a longer one between being listed and being read


def folder_of(which: Spec | Checkpoint) -> str:
    """Where a chain lies."""
    return f"{which.stage}/{which.address}"


def as_json(spec: Spec) -> dict[str, Any]:
    """A spec as a manifest says it."""
    says: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(spec)))
    return says


class Entries:
    """The entries of a place that may fail."""

    def __init__(self, care: Care, warn: Callable[[str], None]) -> None:
        self._care = care
        self._warn = warn
        self._useless: set[str] = set()  # paths of damaged files that could not be moved
        self._written: set[str] = set()  # paths of content that this process wrote
        self._lock = threading.Lock()

    def newest(self, spec: Spec) -> Manifest | None:
        """The manifest of a chain with the most epochs."""
        folder = folder_of(spec)
        for _ in range(ATTEMPTS):
            names = [name for name in self._care.files(folder) if epochs_of(name) is not None]
            if not names:
                return None
            for name in sorted(names, key=lambda name: epochs_of(name) or 0, reverse=True):
                if found := self._manifest(folder, name, spec):
                    return found
        return None

    def _manifest(self, folder: str, name: str, spec: Spec) -> Manifest | None:
        path = f"{folder}/{name}"
        content = None if path in self._useless else self._care.read(path)
        if content is None:
            return None
        try:
            found = unseal(content)
            if found.name != name or found.spec != as_json(spec):
                raise ValueError("it belongs to another chain")
        except OtherFormatError:
            return None
        except ValueError as error:
            self.set_aside(folder, [name], str(error))
            return None
        return found

    def load(self, folder: str, found: Manifest, content: Content) -> State | None:
        """The tensors of a content; None where it is damaged or gone, and then its manifest is set aside."""
        state, damaged = self._verified(folder, content.file, content.sha256)
        files = {} if state else self._care.files(folder)
        if found.name not in files:  # all is well, or a longer one has replaced it meanwhile, or the place is gone
            return state
        if content.file not in files:
            self.set_aside(folder, [found.name], f"{content.file} is missing")
        elif damaged:
            self.set_aside(folder, [found.name, content.file], f"{content.file} is damaged")
        else:
            state, _ = self._verified(folder, content.file, content.sha256)
            if state is None:
                self.set_aside(folder, [found.name], f"{content.file} cannot be read")
        return state

    def _verified(self, folder: str, name: str, sha256: str) -> tuple[State | None, bool]:
        """The tensors of a file, and whether it is damaged; neither where it cannot be read."""
        for _ in range(2):  # what a network garbled once, it may deliver the next time
            content = self._care.read(f"{folder}/{name}")
            if content is None:
                return None, False
            if digest(content) == sha256:
                return unpack(content), False
        return None, True

    def says(self, checkpoint: Checkpoint, of: str) -> State | None:
        """What the checkpoint's network said of the images called `of`; None where that was not kept."""
        folder, start = folder_of(checkpoint), _said(checkpoint, of)
        for name in self._care.files(folder):
            if not name.startswith(start) or f"{folder}/{name}" in self._useless:
                continue
            state, damaged = self._verified(folder, name, name.removeprefix(start).removesuffix(".safetensors"))
            if state is not None:
                return state
            if damaged:
                self.set_aside(folder, [name], "it does not match its hash")
        return None

    def keep(self, checkpoint: Checkpoint, of: str, state: State) -> None:
        """Keep what the checkpoint's network said of the images called `of`."""
        content = pack(state)
        self._care.create(f"{folder_of(checkpoint)}/{_said(checkpoint, of)}{digest(content)}.safetensors", content)

    def put(self, folder: str, state: State) -> Content | None:
        """Write content, unless it is there already; None where that failed."""
        packed = pack(state)
        content = Content(digest(packed), len(packed))
        path = f"{folder}/{content.file}"
        there = self._care.files(folder).get(content.file) == content.bytes
        if there and (path in self._written or self._care.read(path) == packed):
            return content
        if not self._care.replace(path, packed):
            return None
        self._written.add(path)
        return content

    def publish(self, folder: str, manifest: Manifest) -> None:
        """Let a chain appear, and remove the shorter ones that it makes idle."""
        needed, present = {content.file for content in manifest.contents}, self._care.files(folder)
        if present and not needed <= present.keys():  # set aside, evicted, or removed by one that computed other bits
            return
        if not self._care.create(f"{folder}/{manifest.name}", seal(manifest)):  # whoever was first tidies up
            return
        for name in present:
            epochs = epochs_of(name)
            if epochs is None or epochs >= len(manifest.epochs):
                continue
            shorter = self._care.read(f"{folder}/{name}")
            self._care.remove(f"{folder}/{name}")  # before its content, so that nobody trusts what is going
            for file in _files_of(shorter) - needed:
                self._care.remove(f"{folder}/{file}")

    def set_aside(self, folder: str, names: list[str], why: str) -> None:
        """Take damaged files out of the way; they will be made again."""
        with self._lock:
            present = [name for name in names if f"{folder}/{name}" not in self._useless]
            if not present:
                return
            aside = f"aside/{folder}/{uuid.uuid4().hex[:8]}"
            for name in present:
                self._written.discard(f"{folder}/{name}")
                if not self._care.move(f"{folder}/{name}", f"{aside}-{name}"):
                    self._useless.add(f"{folder}/{name}")
        self._warn(f"{folder}/{present[0]} in the store is not used any more: {why}; it is made again")


def _files_of(sealed: bytes | None) -> set[str]:
    try:
        return {content.file for content in unseal(sealed or b"").contents}
    except ValueError:
        return set()


def _said(checkpoint: Checkpoint, of: str) -> str:
    return f"says-{checkpoint.epoch:04d}-{of}-"
