"""The chains of a store on disk: manifests, tensors and predictions, read, written and set aside.

    newest(spec) -> load(...)       a manifest that matches its hash, then tensors that match theirs
    put(...) -> publish(manifest)   files first, the manifest last

What does not match its hash is set aside with a warning that names it, and from then on counts as never written.
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from moe.stages import Checkpoint, Spec
from moe.store.manifest import (
    ATTEMPTS,
    PREDICTIONS,
    Content,
    DamagedError,
    Manifest,
    OtherFormatError,
    aside,
    digest,
    epochs_of,
    predictions_name,
    read_predictions,
    read_verified,
    seal,
    unseal,
)
from moe.store.tensors import State, pack, unpack
from moe.store.tolerant import TolerantFiles


def folder_of(which: Spec | Checkpoint) -> str:
    """The folder of a chain."""
    return f"{which.stage}/{which.address}"


class Entries:
    """The chains at a place that may fail."""

    def __init__(self, files: TolerantFiles, warn: Callable[[str], None]) -> None:
        self._files = files
        self._warn = warn
        self._useless: set[str] = set()  # paths of damaged files that could not be moved
        self._written: set[str] = set()  # paths of tensors that this process wrote
        self.latest: dict[str, Manifest] = {}  # by folder, as last read or written
        self._lock = threading.Lock()

    def newest(self, which: Spec | Checkpoint) -> Manifest | None:
        """The manifest of a chain with the most epochs."""
        folder = folder_of(which)
        for _ in range(ATTEMPTS):
            names = {name: epochs for name in self._files.files(folder) if (epochs := epochs_of(name)) is not None}
            if not names:
                return None
            for name in sorted(names, key=names.__getitem__, reverse=True):
                if content := self._verified(folder, name, partial(read_verified, self._files, folder, name)):
                    self.latest[folder] = unseal(content)
                    return self.latest[folder]
        return None

    def _verified(self, folder: str, name: str, read: Callable[[], bytes | None]) -> bytes | None:
        """The content of a file that matches its hash; one that does not is set aside."""
        if f"{folder}/{name}" in self._useless:
            return None
        try:
            return read()
        except OtherFormatError as error:
            self._files.warn_once("format", f"{folder}/{name} in the store is of another version: {error}")
            return None
        except DamagedError as error:
            self.set_aside(folder, [name], str(error))
            return None

    def load(self, folder: str, manifest: Manifest, content: Content) -> State | None:
        """Tensors that a manifest names; None if they are damaged or gone, and then the manifest is set aside."""
        for _ in range(2):
            state, why = self._tensors(folder, content.file)
            present = {} if state else self._files.files(folder)
            if manifest.name not in present:  # all is well, or a longer chain replaced it, or the place is gone
                return state
            if content.file not in present:
                why = "is missing"
            if why != "cannot be read":
                break
        damaged = [content.file] if why == "is damaged" else []
        self.set_aside(folder, [manifest.name, *damaged], f"{content.file} {why}")
        return None

    def _tensors(self, folder: str, name: str) -> tuple[State | None, str]:
        """The tensors in a file, or what is wrong with it."""
        try:
            content = read_verified(self._files, folder, name)
            return (unpack(content), "") if content else (None, "cannot be read")
        except DamagedError:
            return None, "is damaged"

    def load_weights(self, checkpoint: Checkpoint) -> State | None:
        """The weights of a checkpoint of a chain that was looked up; None if they are not there any more."""
        latest = self.latest.get(folder := folder_of(checkpoint))
        content = latest.weights.get(checkpoint.epoch) if latest else None
        return self.load(folder, latest, content) if latest and content else None

    def load_predictions(self, checkpoint: Checkpoint, images: str) -> State | None:
        """A checkpoint's predictions for a set of images; None if they are not stored for its very weights."""
        folder, weights = folder_of(checkpoint), self._weights(checkpoint)
        if weights is None:
            return None
        for name in self._files.files(folder):
            found = PREDICTIONS.fullmatch(name)
            if found and (int(found[1]), found[2]) == (checkpoint.epoch, images):
                read = partial(read_predictions, self._files, folder, name, weights)
                if content := self._verified(folder, name, read):
                    with suppress(DamagedError):  # forged: it matches its hash and holds no tensors
                        return unpack(content)
        return None

    def save_predictions(self, checkpoint: Checkpoint, images: str, predictions: State) -> None:
        """Write a checkpoint's predictions for a set of images, if its weights are stored."""
        if weights := self._weights(checkpoint):
            folder, packed = folder_of(checkpoint), pack(predictions)
            name = predictions_name(folder, checkpoint.epoch, images, weights, packed)
            self._files.create(f"{folder}/{name}", packed)

    def _weights(self, checkpoint: Checkpoint) -> Content | None:
        """The file of a checkpoint's weights, by the latest manifest."""
        latest = self.latest.get(folder_of(checkpoint)) or self.newest(checkpoint)
        return latest.weights.get(checkpoint.epoch) if latest else None

    def put(self, folder: str, state: State) -> Content | None:
        """Write tensors, unless they are there already; None if that failed."""
        packed = pack(state)
        content = Content(sha256=digest(packed), bytes=len(packed))
        path = f"{folder}/{content.file}"
        present = self._files.files(folder).get(content.file) == content.bytes
        if present and (path in self._written or self._files.read(path) == packed):
            return content
        if not self._files.replace(path, packed):
            return None
        self._written.add(path)
        return content

    def absent(self, folder: str, stored: Mapping[int, Content]) -> set[int]:
        """The epochs of which the file is gone; none if the folder cannot be listed."""
        present = self._files.listing(folder)
        return {epoch for epoch, content in stored.items() if present is not None and content.file not in present}

    def warn_of_loss(self, folder: str) -> None:
        """Warn once that a chain in training lacks files that nobody has in memory, unless another's chain is there."""
        if any(epochs_of(name) is not None for name in self._files.files(folder)):
            return
        sentence = f"{folder} in the store has lost files while it is trained; what is trained of it now is not stored"
        self._files.warn_once(f"loss of {folder}", sentence)

    def publish(self, folder: str, manifest: Manifest) -> None:
        """Make a chain appear, and delete the shorter ones of the same spec."""
        present = self._files.files(folder)
        if present and not manifest.files <= present.keys():  # set aside or evicted, or deleted by other bits' trainer
            return
        if not self._files.create(f"{folder}/{manifest.name}", seal(manifest)):  # the first writer also tidies up
            return
        self.latest[folder] = manifest
        for name in present:
            epochs = epochs_of(name)
            if epochs is not None and epochs < len(manifest.epochs):
                self._delete(folder, name, keep=manifest.files)

    def _delete(self, folder: str, name: str, keep: set[str]) -> None:
        """Delete a manifest and then its files, so that nobody reads a manifest whose files are gone."""
        if (content := self._files.read(f"{folder}/{name}")) is None:
            return
        try:
            files = unseal(content).files
        except OtherFormatError:  # it is left alone
            return
        except DamagedError:
            files = set()
        self._files.remove(f"{folder}/{name}")
        for file in files - keep:
            self._files.remove(f"{folder}/{file}")

    def set_aside(self, folder: str, names: list[str], why: str) -> None:
        """Move damaged files out of the way; they will be made again."""
        with self._lock:
            present = [name for name in names if f"{folder}/{name}" not in self._useless]
            if not present:
                return
            mark = uuid.uuid4().hex[:8]
            for name in present:
                self._written.discard(f"{folder}/{name}")
                moved = self._files.move(f"{folder}/{name}", aside(folder, name, mark))
                if not moved and name in self._files.files(folder):  # else another process has moved it
                    self._useless.add(f"{folder}/{name}")
        self._warn(f"{folder}/{present[0]} in the store is not used any more: {why}; it is made again")
