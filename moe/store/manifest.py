"""What a store says of a chain: JSON that carries its own hash, so that a damaged one is known as such."""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

FORMAT = 1
NAME = re.compile(r"chain-(\d{4,})\.json")


class OtherFormatError(ValueError):
    """A manifest that another version of this program wrote: not ours to use or to judge."""


@dataclass(frozen=True)
class Content:
    """A file of tensors, named after its hash."""

    sha256: str
    bytes: int

    @property
    def file(self) -> str:
        """Its name."""
        return f"{self.sha256}.safetensors"


@dataclass(frozen=True)
class End:
    """What it takes to go on after the last epoch."""

    network: Content
    optimizer: Content


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A chain as far as it was trained."""

    spec: dict[str, Any]
    epochs: tuple[dict[str, float], ...]  # the fields of each epoch
    weights: dict[int, Content]  # by epoch
    end: End | None  # None where patience has ended the chain
    made: dict[str, Any]  # by whom, where, when, with what versions

    @property
    def name(self) -> str:
        """Of its file."""
        return name_of(len(self.epochs))

    @property
    def contents(self) -> set[Content]:
        """All files that it needs."""
        return {*self.weights.values(), *((self.end.network, self.end.optimizer) if self.end else ())}


def name_of(epochs: int) -> str:
    """The file name of a manifest of so many epochs."""
    return f"chain-{epochs:04d}.json"


def epochs_of(name: str) -> int | None:
    """How many epochs a manifest of that file name has; None where it is no manifest's name."""
    found = NAME.fullmatch(name)
    return int(found[1]) if found else None


def digest(content: bytes) -> str:
    """SHA-256 as hex."""
    return hashlib.sha256(content).hexdigest()


def seal(manifest: Manifest) -> bytes:
    """A manifest as JSON, with the hash of what it says."""
    says = json.loads(json.dumps({"format": FORMAT, **dataclasses.asdict(manifest)}, allow_nan=False))
    return (json.dumps({"sha256": digest(_canonical(says)), **says}, indent=1) + "\n").encode()


def unseal(content: bytes) -> Manifest:
    """The manifest that `seal` wrote.

    Raises:
        ValueError: it is damaged.
        OtherFormatError: another version of this program wrote it.
    """
    try:
        says = json.loads(content)
        if says.pop("sha256") != digest(_canonical(says)):
            raise ValueError("it does not match its hash")
        if (version := says.pop("format")) != FORMAT:
            raise OtherFormatError(f"it is of format {version}; expected {FORMAT}")
        end = says.pop("end")
        weights = {int(epoch): Content(**content) for epoch, content in says.pop("weights").items()}
        return Manifest(
            **{**says, "epochs": tuple(says["epochs"])},
            weights=weights,
            end=End(Content(**end["network"]), Content(**end["optimizer"])) if end else None,
        )
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"it is damaged: {error}") from None


def _canonical(says: dict[str, Any]) -> bytes:
    return json.dumps(says, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
