"""What a confirmation fixes before the test images are opened, and what it records of each seed. No torch, no Ray.

    results/<name>/confirm/plan.json           written first
                           choice-0500.json    one record per config and seed: predictions, later which images are right
                           result.json         written last
                   confirm-2/ ...              with --again

All of them carry checksums. A record holds predicted classes until every seed has ended. Only then are they
compared with the test labels, and replaced by one bit per image and arm. Nothing else is ever replaced.
"""

import hashlib
import os
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray
from pydantic import model_validator

from moe.arms import ARMS, NETWORKS, Predicted
from moe.bits import Bools, unpack
from moe.config import Config
from moe.console import warn
from moe.files import NotRegularError, read_regular, sync
from moe.result import Count, Positive, Seconds
from moe.schema import Model, shown
from study.files import decode_edited, seal, unseal
from study.folder import Folder, FolderError
from study.study import COMPLETE, Moment

VERSION: Final = 1  # of these files
CHOICE: Final = "choice"
DEFAULT: Final = "default"
Value = TypeVar("Value", bound=Model)
Role = Literal["choice", "default"]
_NAME = re.compile(r"confirm(-([2-9]|[1-9][0-9]+))?")


class Planned(Model):
    """A config to confirm."""

    role: Role
    config: Config  # with the first of the seeds
    screened: float | None  # its gain in its first trial; None where it has no complete one


class Plan(Model):
    """What is fixed before the test images are opened."""

    schema_version: Literal[1] = VERSION
    study: str
    choice: str  # SHA-256 of best.json
    configs: tuple[Planned, ...]  # the choice is primary
    seeds: tuple[Count, ...]
    margin: Annotated[float, Ge(0)]  # a fraction
    alpha: float
    formula: str
    contrasts: tuple[str, ...]  # the decisive ones, then those adjusted together
    data: str  # the data set's fingerprint
    earlier: tuple[str, ...]  # when the test images of these data were opened before, and by which study
    commit: str | None
    versions: dict[str, str]
    command: str
    planned: Moment


class SeedRecord(Model):
    """One config trained on one seed, with its controls."""

    schema_version: Literal[1] = VERSION
    role: Role
    config: Config
    state: Literal["complete", "failed"]
    error: str | None = None  # why it failed: it is not replaced
    started: Moment
    ended: Moment
    seconds: Seconds
    device: str = ""
    networks: Count = 0  # in the compute-matched ensemble
    validation_gain: float = 0.0
    images: Positive | None = None
    predicted: dict[str, str] | None = None  # until every seed has ended
    right: dict[str, str] | None = None  # after that: by arm, as `moe.bits.pack` makes it

    @model_validator(mode="after")
    def _has_what_its_state_needs(self) -> Self:
        had = [field for field in ("predicted", "right") if getattr(self, field) is not None]
        if len(had) != (self.state == COMPLETE):
            expected = "exactly one of predicted and right" if self.state == COMPLETE else "neither predicted nor right"
            raise ValueError(f"it is {self.state} and has {' and '.join(had) or 'neither'}; expected {expected}")
        if had and self.images is None:
            raise ValueError("images is null; expected how many images were predicted")
        images = self.images or 0
        if self.right is not None:
            _check_packed("right", self.right, ARMS.keys(), -(-images // 8), _unpacked)
        if self.predicted is not None:
            _check_packed("predicted", self.predicted, NETWORKS, images, lambda text: _unpacked_classes(text, images))
        return self

    @property
    def name(self) -> str:
        """Of its file, without the ending."""
        return file_name(self.role, self.config.seed)

    def classes(self) -> Predicted:
        """What was predicted, before it is scored."""
        assert self.predicted is not None
        return {
            name: np.frombuffer(zlib.decompress(b64decode(text)), np.uint8) for name, text in self.predicted.items()
        }

    def bits(self, arm: str) -> Bools:
        """(images,) bool: where an arm is right, once it is scored."""
        assert self.right is not None
        assert self.images is not None
        return unpack(self.right[arm], self.images)


def file_name(role: Role, seed: int) -> str:
    """Of a record, without the ending."""
    return f"{role}-{seed:04d}"


def _check_packed(
    field: str, packed: Mapping[str, str], names: Set[str], size: int, unpacked: Callable[[str], bytes]
) -> None:
    if packed.keys() != names:
        raise ValueError(f"{field} has {', '.join(sorted(packed))}; expected {', '.join(sorted(names))}")
    for name, text in packed.items():
        try:
            found = len(unpacked(text))
        except (ValueError, zlib.error):
            raise ValueError(f"{field}.{name} is {shown(text)}; expected packed bytes in base64") from None
        if found != size:
            raise ValueError(f"{field}.{name} has {found} bytes; expected {size}")


def _unpacked(text: str) -> bytes:
    return b64decode(text, validate=True)


def _unpacked_classes(text: str, images: int) -> bytes:
    return zlib.decompressobj().decompress(_unpacked(text), images + 1)  # no more, whatever it would unpack to


def packed_classes(classes: NDArray[np.uint8]) -> str:
    """Predicted classes as a record has them."""
    return b64encode(zlib.compress(classes.tobytes(), 9)).decode()


@dataclass(frozen=True)
class Confirmation:
    """One confirmation's folder within a study's, which is locked while it is written."""

    folder: Folder
    name: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.folder.path / self.name

    @property
    def number(self) -> int:
        """In the study, from 1."""
        return int(self.name.partition("-")[2] or 1)

    @property
    def result(self) -> Path:
        """Written last."""
        return self.path / "result.json"

    @property
    def planned(self) -> bool:
        """Whether it has begun."""
        return (self.path / "plan.json").exists()

    def opened(self, plan: Plan) -> bool:
        """Whether a seed was scored on the test images."""
        return self.result.exists() or any(record.right is not None for record in self.read_records(plan).values())

    def read_plan(self) -> Plan:
        """The plan; raises a FolderError if it is damaged."""
        return read(Plan, self.path / "plan.json")

    def write_plan(self, plan: Plan) -> None:
        """Write the plan, so that it is on disk before anything else happens."""
        self.folder.write_once(self.name, "plan.json", seal(plan.as_json()))
        for folder in (self.path, self.path.parent):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                sync(descriptor)
            finally:
                os.close(descriptor)

    def read_records(self, plan: Plan) -> dict[str, SeedRecord]:
        """The records that there are, by name, in the plan's order; raises a FolderError if one does not fit."""
        found = {}
        for role, config in planned_trials(plan):
            path = self.path / f"{file_name(role, config.seed)}.json"
            if not path.exists():
                continue
            record = read(SeedRecord, path)
            if (record.role, record.config) != (role, config):
                raise FolderError(f"{path} is of another config; expected the one that plan.json names")
            found[record.name] = record
        return found

    def write_record(self, record: SeedRecord) -> None:
        """Write a record whole: a new one, or one that is scored over the same before it was."""
        text = seal(record.as_json())
        self.folder.write_once(
            self.name, f"{record.name}.json", text, lambda before: scored_since(before, text.encode())
        )

    def write_result(self, outcome: Model) -> None:
        """Write what was found, whole."""
        self.folder.write_once(self.name, self.result.name, seal(outcome.as_json()))


def is_confirmation(folder: str) -> bool:
    """Whether a folder of a study has the name of a confirmation."""
    return _NAME.fullmatch(folder) is not None


def scored_since(before: bytes, now: bytes) -> bool:
    """Whether both are the same seed of a confirmation, before and after its predictions were scored."""
    try:
        one, other = (decode_edited(SeedRecord, content) for content in (before, now))
    except ValueError:
        return False
    return one.predicted is not None and other == one.replace(predicted=None, right=other.right)


def planned_trials(plan: Plan) -> list[tuple[Role, Config]]:
    """Every config on every seed, seed by seed."""
    return [(each.role, each.config.replace(seed=seed)) for seed in plan.seeds for each in plan.configs]


def confirmations(folder: Folder) -> list[Confirmation]:
    """Those of a study's folder that have begun, the first one first; not those that were renamed, as `confirm-old`."""
    found = [Confirmation(folder, path.name) for path in folder.path.glob("confirm*") if is_confirmation(path.name)]
    return sorted((each for each in found if each.planned), key=lambda each: each.number)


def following(folder: Folder) -> Confirmation:
    """The next one of a study's folder, whichever of the earlier ones were moved away."""
    number = max((each.number for each in confirmations(folder)), default=0) + 1
    return Confirmation(folder, f"confirm-{number}" if number > 1 else "confirm")


def plans(folder: Folder) -> list[tuple[Plan, bool]]:
    """All plans below a study's folder, those of renamed confirmations too, and whether the test images were opened."""
    found = [Confirmation(folder, path.parent.name) for path in sorted(folder.path.glob("confirm*/plan.json"))]
    return [(plan := each.read_plan(), each.opened(plan)) for each in found]


def openings(results: Path, data: str) -> tuple[str, ...]:
    """When, by the studies in a results folder, the test images of these data were opened."""
    found = []
    unread = []
    for path in sorted(results.glob("*/study.json")):
        try:
            for plan, opened in plans(Folder(path.parent)):
                if plan.data == data and opened:
                    found.append((plan.planned, f"{path.parent.name} on {plan.planned:%Y-%m-%d}"))
        except FolderError as error:  # of another study perhaps
            warn(str(results), f"whether it opened the test images is not known: {error}")
            unread.append(f"{path.parent.name}, whose confirmation cannot be read")
    return (*(words for _, words in sorted(found)), *unread)


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(read_regular(path)).hexdigest()


def complete(records: Mapping[str, SeedRecord], role: Role) -> list[SeedRecord]:
    """The complete records of a config."""
    return [record for record in records.values() if record.role == role and record.state == COMPLETE]


def read(model: type[Value], path: Path, advice: str = "expected what study.confirm wrote") -> Value:
    """The value in a file of a confirmation; raises a FolderError if it is damaged or was edited."""
    try:
        return unseal(model, read_regular(path))
    except NotRegularError as error:
        raise FolderError(f"{path} is damaged ({error.strerror}); {advice}") from None
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise FolderError(f"{path} is damaged ({error}); {advice}") from None
