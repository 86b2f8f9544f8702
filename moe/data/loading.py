"""A data set as tensors, decoded once into the cache."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from moe.config import DATASETS
from moe.data import cache as caches
from moe.data import cifar10, shapes
from moe.data.dataset import Arrays, DataError, DataSet
from moe.files import expanded, user_cache


def load(
    dataset: str = "auto", folder: Path | None = None, *, cache: Path | None = None, download: bool = True
) -> DataSet:
    """The data set, decoded once and memory-mapped from the cache.

    Args:
        dataset: "cifar10", "shapes", or "auto": CIFAR-10 if it can be had and else shapes.
        folder: where CIFAR-10 is, or a file of it; by default what `CIFAR10_DIR` names. What is named has to
            hold it. Without one, it is taken from the cache or downloaded.
        cache: by default the one named by `MOE_CACHE`, or else the user's cache folder.
        download: whether the network may be used.

    Raises:
        DataError: CIFAR-10 cannot be had, or the named folder does not hold it.
        ValueError: there is no such data set.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset is {dataset!r}; expected one of {', '.join(DATASETS)}")
    cache = cache or user_cache()
    named = folder or os.environ.get("CIFAR10_DIR")
    source = "shapes, drawn by code"
    if dataset != "shapes":
        try:
            return _from_folder(cache, expanded(named)) if named else _official(cache, download)
        except DataError as error:
            if dataset == "cifar10" or named:
                raise
            source += f": CIFAR-10 could not be had ({error})"
    return _data_set("shapes", _cached(cache, f"shapes-{shapes.VERSION}", shapes.draw), source)


def _from_folder(cache: Path, folder: Path) -> DataSet:
    found = cifar10.find(folder)
    return _data_set("cifar10", _cached(cache, found.name, found.read), f"CIFAR-10 from {found.where}")


def _official(cache: Path, download: bool) -> DataSet:
    if arrays := caches.load(cache, cifar10.OFFICIAL):
        return _data_set("cifar10", arrays, f"CIFAR-10 from the cache {cache}")
    if not download:
        raise DataError(
            f"CIFAR-10 is not in the cache {cache} and is not to be downloaded; "
            "name a folder that holds it in CIFAR10_DIR"
        )
    online = cifar10.online()
    return _data_set("cifar10", caches.save(cache, cifar10.OFFICIAL, online.read()), f"CIFAR-10 from {online.where}")


def _cached(cache: Path, name: str, make: Callable[[], Arrays]) -> Arrays:
    """A data set from the cache, made if it is missing."""
    if arrays := caches.load(cache, name):
        return arrays
    print(f"preparing {name.split('-')[0]}, once: up to half a minute", file=sys.stderr, flush=True)
    return caches.save(cache, name, make())


def _data_set(name: str, arrays: Arrays, source: str) -> DataSet:
    tensors = {field: torch.from_numpy(array) for field, array in arrays.named().items()}
    for field in ("train_images", "test_images"):
        tensors[field] = tensors[field].permute(0, 3, 1, 2)  # (N, 3, 32, 32), channels last in memory
    return DataSet(name=name, **tensors, fingerprint=arrays.fingerprint, source=source)
