"""A trained mixture in one file: all that it takes to use it, and where it is from.

    NAME.safetensors   the weights of the five networks, each under its stage's name: gate.0.weight
                       metadata: "description", the JSON of a `Description`, and "sha256" of description and weights

A file appears whole and is never written over; one that is damaged is refused. torch is loaded by `save` and `load`.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import shlex
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

from pydantic import field_validator

from moe.config import CLASS_NAMES, CLASSES, Config
from moe.files import create_file, open_regular
from moe.result import Result
from moe.schema import Model, decode

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIX = ".safetensors"
FORMAT: Final = 1
MOST = 4 << 30  # bytes of a file
MOST_NAME = 255  # bytes of its name, on the usual file systems


class ExportError(Exception):
    """A mixture that cannot be saved or loaded; the sentence says why."""


class Origin(Model):
    """How a mixture came about."""

    command: str
    time: str  # of saving, ISO 8601
    python: str
    torch: str
    commit: str | None = None  # of the code
    study: str | None = None
    trial: int | None = None
    comparison: str | None = None  # with the study's record

    @classmethod
    def here(cls, command: str, **details: str | int | None) -> Self:
        """Now, with the versions of this process."""
        command = command.encode(errors="replace").decode()  # JSON takes no bytes that are not UTF-8
        time = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        return cls(command=command, time=time, python=platform.python_version(), torch=version("torch"), **details)  # type: ignore[arg-type]


class Description(Model):
    """What a saved mixture is, besides its weights."""

    format: Literal[1] = FORMAT
    result: Result  # config, data set, scores, stages, device
    classes: tuple[str, ...]  # names by label
    origin: Origin

    @field_validator("classes")
    @classmethod
    def _different_names(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(classes) != CLASSES or len({*classes} - {""}) != CLASSES:
            raise ValueError(f"classes is {classes}; expected {CLASSES} different names")
        return classes


@dataclass(frozen=True, kw_only=True)
class SavedMixture:
    """A mixture as it was saved."""

    description: Description
    networks: dict[str, "nn.Module"]  # by stage, frozen, on the CPU


def new_file(text: str) -> Path:
    """Parse the path of a file for a mixture: it does not exist, and can be written."""
    path = Path(text)
    if path.suffix != SUFFIX:
        reason = f"a name that ends in {SUFFIX}"
    elif os.path.lexists(path):
        reason = "another name: it exists already"
    elif not path.parent.is_dir():
        reason = f"a file in a folder that exists: {path.parent} does not"
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        reason = f"a file in a folder that can be written: {path.parent} cannot"
    elif len(os.fsencode(path.name)) > MOST_NAME:
        reason = f"a name of at most {MOST_NAME} bytes"
    else:
        return path
    raise argparse.ArgumentTypeError(f"is {text or repr(text)}; expected {reason}")


def how_to_predict(path: Path) -> str:
    """Where a mixture is and how it is used."""
    return f"The mixture is in {path}; python -m moe predict {shlex.quote(str(path))} IMAGE... classifies pictures"


def save(path: Path, networks: Mapping[str, "nn.Module"], result: Result, origin: Origin) -> None:
    """Write the five networks of a run, as `train_mixture` returns them, with its result.

    Raises:
        ExportError: the file exists already, or cannot be written.
    """
    from safetensors.torch import save as pack
    from torch import nn

    classes = CLASS_NAMES.get(result.dataset) or tuple(f"class {label}" for label in range(CLASSES))
    description = Description(result=result, classes=classes, origin=origin).model_dump_json()
    weights = {name: value.cpu().contiguous() for name, value in nn.ModuleDict(dict(networks)).state_dict().items()}
    content = pack(weights, {"description": description, "sha256": _sha256(description, weights)})
    try:
        created = create_file(path, content)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror}") from None
    if not created:
        raise ExportError(f"{path} exists already; choose another file")


def _sha256(description: str, weights: Mapping[str, "Tensor"]) -> str:
    """Of a description and of weights with their names, types and shapes."""
    import torch

    digest = hashlib.sha256(description.encode())
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load(path: Path) -> SavedMixture:
    """A saved mixture, on the CPU.

    Raises:
        ExportError: there is none, or it is damaged.
    """
    metadata, weights = _read(path)
    try:
        content = metadata["description"]
        if (found := _format(content)) > FORMAT:  # a newer version may have another hash
            raise ExportError(
                f"{path} is of a newer version: its format is {found}; expected {FORMAT}, update moe-study"
            )
        if _sha256(content, weights) != metadata["sha256"]:
            raise ExportError(f"{path} is damaged: its content does not match its SHA-256")
        description = decode(Description, content)
    except KeyError as error:
        raise ExportError(f"{path} holds no mixture: its metadata lacks {error}; expected what --save wrote") from None
    except ValueError as error:
        raise ExportError(f"{path} holds no mixture that can be read here: {error}") from None
    try:
        networks = _networks(description.result.config, weights)
    except RuntimeError as error:  # from load_state_dict: all names and shapes, over several lines
        raise ExportError(f"{path} does not fit its config: {textwrap.shorten(str(error), 300)}") from None
    return SavedMixture(description=description, networks=networks)


def _format(description: str) -> int:
    """The format that a description names; 0 where it names none."""
    try:
        found = json.loads(description)["format"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return 0
    return found if type(found) is int else 0


def _read(path: Path) -> tuple[dict[str, str], dict[str, "Tensor"]]:
    """Metadata and tensors of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        open_regular(path, MOST).close()  # safe_open would wait for a pipe
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise ExportError(
            f"{path} cannot be read: {error.strerror or error}; expected a file that --save wrote"
        ) from None
    except SafetensorError as error:
        raise ExportError(f"{path} is damaged or no safetensors file: {error}") from None


def _networks(config: Config, weights: dict[str, "Tensor"]) -> dict[str, "nn.Module"]:
    """The five networks of a config with these weights.

    Raises:
        RuntimeError: weights are missing, unknown, of another shape or type.
    """
    import torch

    from moe.stages import networks

    with torch.device("meta"):  # no initial weights are drawn
        found = networks(config)
    found.to_empty(device="cpu").to(memory_format=torch.channels_last)  # as in training, for equal bits
    found.load_state_dict(weights)
    if broken := next((name for name, value in weights.items() if not value.isfinite().all()), None):
        raise RuntimeError(f"{broken} holds a NaN or an infinity; expected finite numbers")
    if other := [name for name, value in weights.items() if value.dtype != torch.float32]:
        raise RuntimeError(f"{other[0]} is {weights[other[0]].dtype}; expected torch.float32")
    return dict(found.requires_grad_(False).items())
