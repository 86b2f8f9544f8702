"""A data set as arrays, which are read and cached, and as tensors."""

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moe.config import CLASSES

if TYPE_CHECKING:
    from torch import Tensor

#: how many images each half of a data set has
ROWS = {"train": 50_000, "test": 10_000}
IMAGE = (32, 32, 3)  # height, width, colours
MOST_REPEATED = 0.01  # of the images of a half may be there already, as a few are in some collections
LEAST_OF_CLASS = 0.9  # of the images that a class is to have, since some collections have corrected labels


class DataError(Exception):
    """One sentence: data cannot be had or is damaged."""


@dataclass(frozen=True)
class Arrays:
    """A data set: images (N, 32, 32, 3) uint8, labels (N,) int64."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]

    def named(self) -> dict[str, NDArray[Any]]:
        """The arrays by name: images then labels, train then test."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def well_formed(self) -> bool:
        """Whether every array has the type and the shape that it must have."""
        expected = [form for rows in ROWS.values() for form in (((rows, *IMAGE), "uint8"), ((rows,), "int64"))]
        return [(array.shape, array.dtype.name) for array in self.named().values()] == expected

    def problem(self) -> str | None:
        """Why these are not CIFAR-10, whose images differ from each other and whose classes are equally many."""
        halves = {"train": (self.train_images, self.train_labels), "test": (self.test_images, self.test_labels)}
        before: set[bytes] = set()
        for half, (images, labels) in halves.items():
            contents = [image.tobytes() for image in images]
            if (shared := sum(content in before for content in contents)) > MOST_REPEATED * len(contents):
                return f"{shared} test images that are train images too; expected other ones"
            before = {*contents}
            if (twice := len(contents) - len(before)) > MOST_REPEATED * len(contents):
                return f"{twice} {half} images that are there already; expected each image once"
            for label, rows in enumerate(np.bincount(labels, minlength=CLASSES)):
                if rows < LEAST_OF_CLASS * len(contents) / CLASSES:
                    return f"{rows} {half} images with the label {label}; expected {len(contents) // CLASSES}"
        return None

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the content, the same for all files that hold the same images."""
        digest = hashlib.sha256()
        for array in self.named().values():
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class DataSet:
    """Images and their labels; the images' channels are last in memory."""

    name: str  # "cifar10" or "shapes"
    train_images: "Tensor"  # (50000, 3, 32, 32) uint8
    train_labels: "Tensor"  # (50000,) int64
    test_images: "Tensor"  # (10000, 3, 32, 32) uint8
    test_labels: "Tensor"  # (10000,) int64
    fingerprint: str  # SHA-256 of the content, the same for all files that hold the same images
    source: str  # a sentence: where it came from, and why it is not CIFAR-10
