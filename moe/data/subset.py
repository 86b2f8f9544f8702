"""The images of one run: which are trained on, which stop training, which are scored, and in what order."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from moe.config import CLASSES, HOLDOUT, VALIDATION_EXAMPLES, Config
from moe.data.dataset import DataError, DataSet

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Indices = NDArray[np.int64]
PER_CLASS = VALIDATION_EXAMPLES // CLASSES  # validation images
_VALIDATION, _POOL = 0, 1  # what a stream of random numbers is for


@dataclass(frozen=True)
class Subset:
    """The images of one run. Those that stop training are the first of those that are scored."""

    train_images: "Tensor"  # (N, 3, 32, 32) uint8
    train_labels: "Tensor"  # (N,)
    score_images: "Tensor"
    score_labels: "Tensor"
    stopping: int  # how many of the scored images stop training

    def to(self, device: "torch.device") -> "Subset":
        """The same images on a device."""
        tensors = ("train_images", "train_labels", "score_images", "score_labels")
        return replace(self, **{name: getattr(self, name).to(device) for name in tensors})


def subset(config: Config, data: DataSet) -> Subset:
    """The images that a config, or the spec of one of its stages, asks for.

    Under `holdout` every validation image is scored.

    Raises:
        DataError: a class has no image to train on or to stop by.
    """
    train, stop = config.train_examples, config.test_examples
    if config.protocol == HOLDOUT:
        pool, validation = holdout(data.train_labels, config.seed)
        rows = (pool[:train], validation)
        parts = [each[part] for part in rows for each in (data.train_images, data.train_labels)]
    else:
        parts = [data.train_images[:train], data.train_labels[:train], data.test_images[:stop], data.test_labels[:stop]]
    for field, labels in (("train_examples", parts[1]), ("test_examples", parts[3][:stop])):
        if missing := sorted(set(range(CLASSES)) - set(labels.tolist())):
            count = getattr(config, field)
            raise DataError(f"{field} is {count}; expected more: class {missing[0]} has no image among them")
    images, labels, score_images, score_labels = parts
    return Subset(images, labels, score_images, score_labels, stopping=stop)


def holdout(labels: "Tensor", seed: int) -> "tuple[Tensor, Tensor]":
    """As `split`, of tensors."""
    import torch

    pool, validation = split(labels.numpy(), seed)
    return torch.from_numpy(pool), torch.from_numpy(validation)


def split(classes: Indices, seed: int) -> tuple[Indices, Indices]:
    """The images to train on and the images for validation, by their index. No torch.

    Both are in a class-balanced order: the first 10 k images are k of each class, until a class runs out.

    Args:
        classes: (N,) of the training images, each 0 to 9.
        seed: 0 or more; orders the pool and leaves validation as it is.

    Returns:
        pool: (N - 5000,) int64, in the seed's order, so that the first n nest in the first n + 1.
        validation: (5000,) int64, 500 a class, the same for every seed.

    Raises:
        DataError: a class has fewer than 501 images.
    """
    counts = np.bincount(classes, minlength=CLASSES)
    if counts.min() <= PER_CLASS:
        raise DataError(
            f"class {counts.argmin()} has {counts.min()} training images; "
            f"expected {PER_CLASS + 1} or more, as {PER_CLASS} of each class are for validation"
        )
    order = _balanced(classes, np.random.SeedSequence([_VALIDATION]))
    validation, rest = order[: PER_CLASS * CLASSES], np.sort(order[PER_CLASS * CLASSES :])
    pool = rest[_balanced(classes[rest], np.random.SeedSequence([_POOL, seed]))]
    return pool, validation


def _balanced(classes: Indices, seed: np.random.SeedSequence) -> Indices:
    """A random order of the indices in which the k-th of every class come before any k+1-th."""
    rng = np.random.default_rng(seed)
    shuffled = np.argsort(rng.random(len(classes)), kind="stable")
    rank = np.empty_like(shuffled)
    for label in range(CLASSES):
        mine = classes[shuffled] == label
        rank[mine] = np.arange(mine.sum())
    return shuffled[np.lexsort((rng.random(len(classes)), rank))]
