"""The files of a chain: how they are named, what a manifest holds, and whether a file matches its SHA-256.

A file of weights has its hash in its name; predictions have there the hash of themselves, their network's weights and
their images; a manifest has its hash inside. Nothing here imports torch.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from moe.result import Epoch
from moe.schema import Model, decode
from moe.store.files import Place
from moe.store.tolerant import TolerantFiles

FORMAT = 2  # part of every address: two versions of this program use one store side by side
TENSORS = re.compile(r"(?:.+-)?([0-9a-f]{64})\.safetensors")
PREDICTIONS = re.compile(r"predictions-(\d{4,})-(.+)-([0-9a-f]{64})\.safetensors")
_MANIFEST = re.compile(r"chain-(\d{4,})\.json")
ATTEMPTS = 3  # at a chain whose manifest is replaced by a longer one between listing and reading


class DamagedError(Exception):
    """A file does not match its hash, or is in the wrong place."""


class OtherFormatError(Exception):
    """A manifest that another version of this program wrote: it can be neither used nor checked."""


class Content(Model):
    """A file of tensors. Its hash is its name, so that no manifest can name a file outside of its own folder."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]

    @property
    def file(self) -> str:
        """The name of the file."""
        return f"{self.sha256}.safetensors"


class EndFiles(Model):
    """What it takes to resume training after the last epoch."""

    network: Content
    optimizer: Content


class Manifest(Model):
    """A chain as far as it was trained."""

    spec: dict[str, Any]  # the fields of a moe.stages.Spec, which needs torch
    epochs: tuple[Epoch, ...]
    weights: dict[int, Content]  # by epoch
    end: EndFiles | None  # None if patience ended the chain
    made: dict[str, Any]  # host, time, device, versions: for people

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"chain-{len(self.epochs):04d}.json"

    @property
    def folder(self) -> str:
        """The folder that it belongs in."""
        return f"{self.spec.get('stage')}/{address_of(self.spec)}"

    @property
    def files(self) -> set[str]:
        """The names of all files that it needs."""
        contents = [*self.weights.values(), *([self.end.network, self.end.optimizer] if self.end else [])]
        return {content.file for content in contents}


def epochs_of(name: str) -> int | None:
    """How many epochs a manifest with this file name has; None if it is not the name of a manifest."""
    found = _MANIFEST.fullmatch(name)
    return int(found[1]) if found else None


def predictions_name(folder: str, epoch: int, images: str, weights: Content, predictions: bytes) -> str:
    """The file name of a checkpoint's predictions for a set of images; its hash binds them to both."""
    bound = digest(canonical([folder, epoch, images, weights.sha256, digest(predictions)]))
    return f"predictions-{epoch:04d}-{images}-{bound}.safetensors"


def aside(folder: str, name: str, mark: str) -> str:
    """The path for a damaged file; `mark` differs between those that had the same name."""
    return f"aside/{folder}/{mark}-{name}"


def digest(content: bytes) -> str:
    """SHA-256 as hex."""
    return hashlib.sha256(content).hexdigest()


def canonical(value: Any) -> bytes:
    """The one JSON text of a value that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def address_of(spec: dict[str, Any]) -> str:
    """The address of a chain: 128 bits of the SHA-256 of the fields of its spec, as hex."""
    return digest(canonical({"format": FORMAT, **spec}))[:32]


def seal(manifest: Manifest) -> bytes:
    """A manifest as JSON that carries its own hash."""
    fields = {"format": FORMAT, **manifest.as_json()}
    return (json.dumps({"sha256": digest(canonical(fields)), **fields}, indent=1) + "\n").encode()


def unseal(content: bytes) -> Manifest:
    """The manifest that `seal` wrote.

    Raises:
        DamagedError: it is none, or does not match its hash.
        OtherFormatError: another version of this program wrote it.
    """
    try:
        fields = json.loads(content)
        sealed = fields.pop("sha256", None)
        matches = sealed == digest(canonical(fields))
        version = fields.pop("format")
        flipped = sealed == digest(canonical({**fields, "format": FORMAT}))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedError("it is no manifest") from None
    if type(version) is int and version != FORMAT and not flipped:  # another version may seal otherwise
        raise OtherFormatError(f"its format is {version}; expected {FORMAT}")
    if not matches:
        raise DamagedError("it does not match its hash")
    try:
        return decode(Manifest, fields)
    except ValueError as error:
        raise DamagedError(str(error)) from None


def is_hashed(name: str) -> bool:
    """Whether a file of this name is a manifest or a file of tensors."""
    return epochs_of(name) is not None or TENSORS.fullmatch(name) is not None


def read_verified(files: Place | TolerantFiles, folder: str, name: str) -> bytes | None:
    """Read a manifest or a file of weights that matches its hash; None if it is not there.

    Raises:
        DamagedError: it does not match, or belongs to another chain.
        OtherFormatError: it is a manifest of another version of this program.
        PlaceError: a Place cannot be read.
    """
    return _read(files, folder, name, lambda content: _verify(content, folder, name))


def read_predictions(files: Place | TolerantFiles, folder: str, name: str, weights: Content) -> bytes | None:
    """Read the predictions of a network with these weights; None if they are not there; raises as `read_verified`."""
    found = PREDICTIONS.fullmatch(name)

    def verify(content: bytes) -> None:
        if found is None or name != predictions_name(folder, int(found[1]), found[2], weights, content):
            raise DamagedError("its hash is not that of these predictions, weights and images")

    return _read(files, folder, name, verify)


def _read(files: Place | TolerantFiles, folder: str, name: str, verify: Callable[[bytes], object]) -> bytes | None:
    damage = DamagedError()
    for _ in range(2):  # what a network garbled once may be right the next time
        content = files.read(f"{folder}/{name}")
        if content is None:
            return None
        try:
            verify(content)
            return content
        except DamagedError as error:
            damage = error
    raise damage


def _verify(content: bytes, folder: str, name: str) -> None:
    if found := TENSORS.fullmatch(name):
        if digest(content) != found[1]:
            raise DamagedError("it does not match its hash")
        return
    manifest = unseal(content)
    if (manifest.folder, manifest.name) != (folder, name):
        raise DamagedError("it belongs to another chain")
