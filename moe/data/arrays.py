"""Images and labels as arrays, before they become tensors, and what must be true of them."""

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe.config import CLASSES

#: how many images each half of a data set has
ROWS = {"train": 50_000, "test": 10_000}
IMAGE = (32, 32, 3)  # height, width, colours


class DataError(Exception):
    """One sentence: data cannot be had or is damaged."""


@dataclass(frozen=True)
class Arrays:
    """A data set: images (N, 32, 32, 3) uint8, labels (N,) int64."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]

    def items(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """The arrays with their names: images then labels, train then test."""
        return ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the content, the same wherever it was read from."""
        digest = hashlib.sha256()
        for _, array in self.items():
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).data)
        return digest.hexdigest()

    def well_formed(self) -> bool:
        """Whether every array has the type and the shape that it must have."""
        return all(
            images.shape == (rows, *IMAGE)
            and images.dtype == np.uint8
            and labels.shape == (rows,)
            and labels.dtype == np.int64
            for rows, images, labels in (
                (ROWS["train"], self.train_images, self.train_labels),
                (ROWS["test"], self.test_images, self.test_labels),
            )
        )


def check_half(half: str, images: NDArray[Any], labels: NDArray[Any], where: str) -> None:
    """Refuse a train or test half that is not CIFAR-10.

    Args:
        half: "train" or "test".
        images: as read, expected to be (N, 32, 32, 3).
        labels: as read, expected to be (N,).
        where: the file or files, for the sentence.

    Raises:
        DataError: another number of rows, or a label that is no class.
    """
    if len(images) != ROWS[half] or len(labels) != ROWS[half]:
        has = f"{len(images)} {half} images and {len(labels)} labels"
        raise DataError(f"{where} holds {has}; expected {ROWS[half]} of each")
    check_labels(labels, where)


def check_labels(labels: NDArray[Any], where: str) -> None:
    """Refuse labels outside 0 to 9 with a `DataError`."""
    outside = labels[(labels < 0) | (labels >= CLASSES)]
    if len(outside):
        raise DataError(f"{where} has the label {outside[0]}; expected 0 to {CLASSES - 1}")
