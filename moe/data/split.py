"""Which training images validate and which are learnt from, and in what order."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moe.config import CLASSES
from moe.data.arrays import DataError

PER_CLASS = 500  # validation images
_VALIDATION, _POOL = 0, 1  # what a stream of random numbers is for


def holdout(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The images to learn from and the images for validation, by their index.

    Both are in a class-balanced order: the first 10 k images are k of each class, until a class runs out.

    Args:
        labels: (N,) of the training images, each 0 to 9.
        seed: 0 or more; orders the pool and leaves validation as it is.

    Returns:
        pool: (N - 5000,) int64, in the seed's order, so that the first n nest in the first n + 1.
        validation: (5000,) int64, 500 a class, the same for every seed.

    Raises:
        DataError: a class has fewer than 501 images.
    """
    classes = labels.numpy()
    counts = np.bincount(classes, minlength=CLASSES)
    if counts.min() <= PER_CLASS:
        raise DataError(
            f"class {counts.argmin()} has {counts.min()} training images; "
            f"expected {PER_CLASS + 1} or more, as {PER_CLASS} of each class are for validation"
        )
    order = _balanced(classes, np.random.SeedSequence([_VALIDATION]))
    validation, rest = order[: PER_CLASS * CLASSES], np.sort(order[PER_CLASS * CLASSES :])
    pool = rest[_balanced(classes[rest], np.random.SeedSequence([_POOL, seed]))]
    return torch.from_numpy(pool), torch.from_numpy(validation)


def _balanced(classes: NDArray[np.int64], seed: np.random.SeedSequence) -> NDArray[np.int64]:
    """A random order of the indices in which the k-th of every class come before any k+1-th."""
    rng = np.random.default_rng(seed)
    shuffled = np.argsort(rng.random(len(classes)), kind="stable")
    rank = np.empty_like(shuffled)
    for label in range(CLASSES):
        mine = classes[shuffled] == label
        rank[mine] = np.arange(mine.sum())
    return shuffled[np.lexsort((rng.random(len(classes)), rank))]
