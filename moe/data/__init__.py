"""The images: CIFAR-10 from a folder, the cache or the network, or `shapes`, which are drawn by code.

    data = load()  # CIFAR-10 if it can be had, else shapes; data.source says which and why
    pool, validation = holdout(data.train_labels, seed=0)

They are decoded once into the cache, and every process maps the same memory.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from moe.config import DATASETS
from moe.data import cifar10, shapes
from moe.data.arrays import Arrays, DataError
from moe.data.cache import Cache, default_folder
from moe.data.split import holdout

__all__ = ["DataError", "DataSet", "holdout", "load"]


@dataclass(frozen=True)
class DataSet:
    """Images and their labels; the images' channels are last in memory."""

    name: str  # "cifar10" or "shapes"
    train_images: Tensor  # (50000, 3, 32, 32) uint8
    train_labels: Tensor  # (50000,) int64
    test_images: Tensor  # (10000, 3, 32, 32) uint8
    test_labels: Tensor  # (10000,) int64
    fingerprint: str  # sha256 of the content, the same from whatever files it was read
    source: str  # a sentence: where it came from, and why it is not CIFAR-10


def load(
    dataset: str = "auto", folder: Path | None = None, *, cache: Path | None = None, download: bool = True
) -> DataSet:
    """The data set, decoded once and memory-mapped from the cache.

    Args:
        dataset: "cifar10", "shapes", or "auto": CIFAR-10 if it can be had and else shapes.
        folder: where CIFAR-10 is; by default the one named by `CIFAR10_DIR`. A folder that is named has to
            hold it. Without one, it is taken from the cache or downloaded.
        cache: by default the one named by `MOE_CACHE`, or else the user's cache folder.
        download: whether the network may be used.

    Raises:
        DataError: CIFAR-10 cannot be had, or the named folder does not hold it.
        ValueError: there is no such data set.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset is {dataset!r}; expected one of {', '.join(DATASETS)}")
    decoded = Cache(cache or default_folder())
    if dataset == "shapes":
        return _shapes(decoded, "shapes, drawn by code")
    named = folder or os.environ.get("CIFAR10_DIR")
    if named:
        source = cifar10.find(Path(named))
        arrays = _once(decoded, f"cifar10-{source.key}", source.read)
        return _data_set("cifar10", arrays, f"CIFAR-10 from {source.where}")
    try:
        return _official(decoded, download)
    except DataError as error:
        if dataset == "cifar10":
            raise
        return _shapes(decoded, f"shapes, drawn by code: CIFAR-10 could not be had ({error})")


def _official(cache: Cache, may_download: bool) -> DataSet:
    source = cifar10.online()
    name = f"cifar10-{source.key}"
    if (arrays := cache.find(name)) is not None:
        return _data_set("cifar10", arrays, f"CIFAR-10 from the cache {cache.folder}")
    if not may_download:
        raise DataError(
            f"CIFAR-10 is not in the cache {cache.folder} and is not to be downloaded; "
            "name a folder that holds it in CIFAR10_DIR"
        )
    return _data_set("cifar10", cache.keep(name, source.read()), f"CIFAR-10 from {source.where}")


def _shapes(cache: Cache, source: str) -> DataSet:
    return _data_set("shapes", _once(cache, f"shapes-{shapes.VERSION}", shapes.draw), source)


def _data_set(name: str, arrays: Arrays, source: str) -> DataSet:
    tensors = {field: torch.from_numpy(array) for field, array in arrays.items()}
    for field in ("train_images", "test_images"):
        tensors[field] = tensors[field].permute(0, 3, 1, 2)  # (N, 3, 32, 32), channels last in memory
    return DataSet(name=name, **tensors, fingerprint=arrays.fingerprint, source=source)


def _once(cache: Cache, name: str, make: Callable[[], Arrays]) -> Arrays:
    """What the cache has under that name, made where it has nothing."""
    if (arrays := cache.find(name)) is not None:
        return arrays
    print(f"preparing {name.split('-')[0]}, once: up to half a minute", file=sys.stderr, flush=True)
    return cache.keep(name, make())
