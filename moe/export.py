"""A trained mixture in a folder: all that it takes to use it, and where it is from.

    <folder>/mixture.safetensors   the weights of the five networks, each under its stage's name
             mixture.json          config, classes, scores and origin; size and SHA-256 of the weights; written last

There is a mixture where there is a mixture.json, and neither file is ever written over. What does not match its hash
or its config is refused. Reading a command line with these functions loads no torch.
"""

import argparse
import dataclasses
import datetime
import json
import os
import platform
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe.config import CLASS_NAMES, CLASSES, Config

if TYPE_CHECKING:
    from torch import nn

    from moe.result import Result
    from moe.store.tensors import State

FORMAT = 1
ABOUT, WEIGHTS = "mixture.json", "mixture.safetensors"
_SHARES = ("mixture_accuracy", "baseline_accuracy")


class SavedError(Exception):
    """A mixture that cannot be written or read; the sentence says why."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of a saved mixture besides its weights."""

    config: Config
    dataset: str
    data: str  # the data set's fingerprint
    classes: tuple[str, ...]  # in words, by label
    result: dict[str, Any]  # the scores, on how many images, and how far each stage was trained
    made: dict[str, Any]  # how, when, on what, with which versions

    def __post_init__(self) -> None:
        words = [name for name in self.classes if isinstance(name, str) and name]
        if len(self.classes) != CLASSES or len(set(words)) != CLASSES:
            raise ValueError(f"classes are {self.classes!r}; expected {CLASSES} different words")
        for name in _SHARES:
            if not 0 <= (value := float(self.result[name])) <= 1:
                raise ValueError(f"{name} is {value}; expected 0 to 1")
        if type(images := self.result["scored_examples"]) is not int:
            raise ValueError(f"scored_examples is {images!r}; expected a whole number")


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A mixture as it was saved."""

    about: About
    networks: dict[str, "nn.Module"]  # by stage, frozen, on the CPU


def vacant(text: str) -> Path:
    """Parse a folder for a mixture: it holds none, and it can be written or made."""
    if not text:
        raise argparse.ArgumentTypeError("is ''; expected a folder")
    folder = Path(text)
    taken = [name for name in (ABOUT, WEIGHTS) if os.path.exists(folder / name)]
    if taken:
        raise argparse.ArgumentTypeError(f"is {text}, which holds {taken[0]} already; expected another folder")
    above = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
    if reason := _unwritable(above):
        raise argparse.ArgumentTypeError(f"is {text}; expected a folder that can be written ({above}: {reason})")
    return folder


def _unwritable(folder: Path) -> str:
    """Why nothing can be written to a folder, found by trying: rights alone know of no full or read-only disk."""
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(b"0")
            trial.flush()
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def save(folder: Path, networks: Mapping[str, "nn.Module"], result: "Result", made: Mapping[str, Any]) -> None:
    """Write a trained mixture, weights first.

    Args:
        folder: made if need be.
        networks: of all five stages, as a finished run has them.
        result: what that run found.
        made: how it came about, for people; time, device and versions are added.

    Raises:
        SavedError: the folder holds a mixture already, or cannot be written.
    """
    from moe.store.local import Local
    from moe.store.manifest import digest
    from moe.store.place import PlaceError
    from moe.store.tensors import pack

    content = pack(_joined(networks))
    says = {
        "format": FORMAT,
        **dataclasses.asdict(_about(result, made)),
        "config": result.config.as_json(),
        "weights": {"bytes": len(content), "sha256": digest(content)},
    }
    files = {WEIGHTS: content, ABOUT: (json.dumps(says, indent=2, allow_nan=False) + "\n").encode()}
    try:
        for name, written in files.items():
            if not Local(folder).create(name, written):
                raise SavedError(f"{folder} holds {name} already; choose another folder")
    except PlaceError as error:
        raise SavedError(f"the mixture cannot be written to {error}") from None


def how_to_ask(folder: Path) -> str:
    """Where a mixture is and what to do with it, for people."""
    return f"The mixture is in {folder}; python -m moe predict {shlex.quote(str(folder))} IMAGE... asks it"


def _joined(networks: Mapping[str, "nn.Module"]) -> "State":
    return {f"{stage}.{name}": value for stage, net in networks.items() for name, value in net.state_dict().items()}


def _about(result: "Result", made: Mapping[str, Any]) -> About:
    import torch

    stages = {
        name: {"epochs": len(stage.epochs), "best_epoch": stage.best_epoch} for name, stage in result.stages.items()
    }
    return About(
        config=result.config,
        dataset=result.dataset,
        data=result.data,
        classes=CLASS_NAMES.get(result.dataset) or tuple(f"class {label}" for label in range(CLASSES)),
        result={**result.score.as_json(), "scored_examples": result.scored_examples, "stages": stages},
        made={
            **made,
            "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "device": result.device,
            "threads": result.threads,
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
        },
    )


def load(folder: Path) -> Saved:
    """A saved mixture, on the CPU.

    Raises:
        SavedError: there is none, or it is damaged.
    """
    about, weights = _described(folder)
    return Saved(about=about, networks=_networks(folder / WEIGHTS, about.config, _content(folder / WEIGHTS, **weights)))


def _described(folder: Path) -> tuple[About, dict[str, Any]]:
    path = folder / ABOUT
    try:
        says = json.loads(path.read_text("utf-8"))
        if not isinstance(says, dict):
            raise ValueError("no JSON object")
        if (found := says.pop("format")) != FORMAT:
            raise SavedError(f"{path} is of format {found!r}; expected {FORMAT}")
        weights = {"size": says["weights"]["bytes"], "sha256": says.pop("weights")["sha256"]}
        about = About(**{**says, "config": Config(**says["config"]), "classes": tuple(says["classes"])})
    except (FileNotFoundError, NotADirectoryError):
        raise SavedError(f"{folder} holds no mixture; expected {ABOUT} and {WEIGHTS}, as --save writes them") from None
    except OSError as error:
        raise SavedError(f"{path} cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise SavedError(f"{path} is damaged ({reason}); expected what --save wrote") from None
    return about, weights


def _content(path: Path, size: object, sha256: object) -> bytes:
    from moe.store.manifest import digest

    try:
        found = path.stat().st_size
        if found != size:
            raise SavedError(f"{path} is damaged: it has {found:,} bytes, not the {size} that {ABOUT} says")
        content = path.read_bytes()
    except FileNotFoundError:
        raise SavedError(f"{path} is missing; {ABOUT} is nothing without it") from None
    except OSError as error:
        raise SavedError(f"{path} cannot be read: {error.strerror}") from None
    if digest(content) != sha256:
        raise SavedError(f"{path} is damaged: it does not match the SHA-256 in {ABOUT}")
    return content


def _networks(path: Path, config: Config, content: bytes) -> dict[str, "nn.Module"]:
    """The five networks of a config, with weights that were packed.

    Raises:
        SavedError: they are not those of such a config.
    """
    import torch
    from safetensors import SafetensorError

    from moe.stages import STAGES
    from moe.store.tensors import unpack

    with torch.device("meta"):
        networks = {
            stage.name: stage.network(stage.size(config), precision=config.precision) for stage in STAGES.values()
        }
    expected = {name: (value.dtype, value.shape) for name, value in _joined(networks).items()}
    try:
        state = unpack(content)
    except SafetensorError as error:
        raise SavedError(f"{path} is damaged: {error}") from None
    odd = sorted(expected.keys() ^ state.keys()) or [
        name for name, value in state.items() if (value.dtype, value.shape) != expected[name]
    ]
    if odd:
        raise SavedError(f"{path} does not fit the config in {ABOUT}: {odd[0]} is missing, unknown or of another shape")
    for stage, network in networks.items():
        own = {name.removeprefix(f"{stage}."): value for name, value in state.items() if name.startswith(f"{stage}.")}
        network.load_state_dict(own, assign=True)
        network.requires_grad_(False)
    return networks
