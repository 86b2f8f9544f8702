"""The images of one run: those to learn from, to stop by and to score on."""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from moe.config import ARTIFICIAL, HOLDOUT, NATURAL
from moe.data import DataError, DataSet, holdout
from moe.stages import STAGES
from moe.training.loop import Examples


class Choice(Protocol):
    """What decides the images of a stage: these fields of a spec, or of a config."""

    @property
    def protocol(self) -> str:
        """The protocol."""

    @property
    def seed(self) -> int:
        """Orders the images to learn from."""

    @property
    def train_examples(self) -> int:
        """How many to learn from."""

    @property
    def test_examples(self) -> int:
        """How many to stop by."""


@dataclass(frozen=True)
class Cut:
    """The images of one run. Those that stop training are the first of those that are scored."""

    train_images: Tensor  # (N, 3, 32, 32) uint8
    train_labels: Tensor  # (N,)
    score_images: Tensor
    score_labels: Tensor
    stopping: int  # how many of the scored images stop training

    def to(self, device: torch.device) -> "Cut":
        """The same images on a device."""
        tensors = ("train_images", "train_labels", "score_images", "score_labels")
        return replace(self, **{name: getattr(self, name).to(device) for name in tensors})

    def examples(self, stage: str) -> tuple[Examples, Examples]:
        """What a stage learns from and what stops it."""
        stop = slice(self.stopping)
        return (
            _viewed(stage, self.train_images, self.train_labels),
            _viewed(stage, self.score_images[stop], self.score_labels[stop]),
        )


def cut(choice: Choice, data: DataSet, score_examples: int | None = None) -> Cut:
    """Cut a data set as the protocol says.

    Args:
        score_examples: how many images to score on under `holdout`, at least `test_examples`, which is the default.

    Raises:
        DataError: a class has no image to learn from or to stop by.
    """
    if choice.protocol == HOLDOUT:
        scored = max(choice.test_examples, score_examples or 0)
        pool, validation = holdout(data.train_labels, choice.seed)
        rows, score_rows = pool[: choice.train_examples], validation[:scored]
        images, labels = data.train_images, data.train_labels
        parts = (images[rows], labels[rows], images[score_rows], labels[score_rows])
    else:
        train, test = slice(choice.train_examples), slice(choice.test_examples)
        parts = (
            data.train_images[train],
            data.train_labels[train],
            data.test_images[test],
            data.test_labels[test],
        )
    _require_every_class("train_examples", choice.train_examples, parts[1])
    _require_every_class("test_examples", choice.test_examples, parts[3][: choice.test_examples])
    return Cut(*parts, choice.test_examples)


def _require_every_class(field: str, asked: int, labels: Tensor) -> None:
    missing = sorted(set(ARTIFICIAL + NATURAL) - set(labels.tolist()))
    if missing:
        raise DataError(f"{field} is {asked}; expected more: class {missing[0]} has no image among them")


def _viewed(stage: str, images: Tensor, labels: Tensor) -> Examples:
    rows, labels = STAGES[stage].view(labels)
    return Examples(images[rows], labels[rows])
