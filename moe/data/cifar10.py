"""CIFAR-10 in a folder, in one of three forms, and how the two official ones are read.

    cifar-10-batches-py/data_batch_1 ...    the official batches (or the folder itself holds them)
    cifar-10-python.tar.gz                  the official archive of the same batches
    train-*.parquet, test-*.parquet         the form in which CIFAR-10 is commonly redistributed

Official files are pickles, so nothing in them is opened before its md5 is the one torchvision knows.
"""

import hashlib
import io
import pickle
import tarfile
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe.data import parquet
from moe.data.arrays import Arrays, DataError, check_half
from moe.data.download import fetch

BATCHES, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
FORMS = f"{BATCHES}/, {ARCHIVE}, or train-*.parquet and test-*.parquet"


@dataclass(frozen=True)
class Source:
    """CIFAR-10 that was found and can be read."""

    where: str  # in words
    key: str  # the digest of its files' content
    read: Callable[[], Arrays]


def find(folder: Path) -> Source:
    """The form of CIFAR-10 that a folder holds, official files being checked already.

    Raises:
        DataError: there is no such folder, nothing in it is CIFAR-10, or a file is missing or damaged.
    """
    try:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; expected one with {FORMS}")
        source = _in_batches(folder) or _in_archive(folder) or _in_parquet(folder)
    except OSError as error:
        raise DataError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from error
    if source is None:
        raise DataError(f"{folder} holds no CIFAR-10; expected {FORMS}")
    return source


def online() -> Source:
    """The official archive on the network; reading raises a `DataError` where it cannot be had."""
    tables = _torchvision()

    def read() -> Arrays:
        archive = fetch(tables.url)
        _check_md5(archive, tables.tgz_md5, tables.url)
        return _read_archive(archive, tables.url)

    return Source(tables.url, _official_key(), read)


def _read_archive(file: io.BufferedIOBase, where: str) -> Arrays:
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:gz") as tar:
            return _read_official(lambda name: _member(tar, name), where)
    except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{where} cannot be unpacked: {error}") from error


def _in_batches(folder: Path) -> Source | None:
    nested = folder / BATCHES
    batches = nested if nested.is_dir() else folder
    if batches == folder and not any(folder.glob("*_batch*")):
        return None
    paths = {name: batches / name for name, _ in _batches()}
    for name, md5 in _batches():
        if not paths[name].is_file():
            raise DataError(f"{paths[name]} is missing; expected the batches {', '.join(paths)}")
        with open(paths[name], "rb") as file:
            _check_md5(file, md5, str(paths[name]))
    where = f"the official batches in {batches}"
    return Source(where, _official_key(), lambda: _read_official(lambda name: paths[name].read_bytes(), where))


def _in_archive(folder: Path) -> Source | None:
    path = folder / ARCHIVE
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        _check_md5(file, _torchvision().tgz_md5, str(path))

    def read() -> Arrays:
        with open(path, "rb") as file:
            return _read_archive(file, str(path))

    return Source(f"the official archive {path}", _official_key(), read)


def _in_parquet(folder: Path) -> Source | None:
    shards = {half: sorted(folder.glob(f"{half}-*.parquet")) for half in ("train", "test")}
    if not any(shards.values()):
        return None
    for half, paths in shards.items():
        if not paths:
            raise DataError(f"{folder} has no {half}-*.parquet; expected it beside the other half")
    digest = hashlib.sha256()
    for half, paths in shards.items():
        for path in paths:
            with open(path, "rb") as file:
                digest.update(half.encode() + hashlib.file_digest(file, "sha256").digest())
    return Source(f"Parquet files in {folder}", digest.hexdigest(), lambda: parquet.read(shards))


def _read_official(open_batch: Callable[[str], bytes], where: str) -> Arrays:
    halves: list[NDArray[Any]] = []
    for half, batches in (("train", _torchvision().train_list), ("test", _torchvision().test_list)):
        read = [_unpickle(open_batch(name), md5, f"{name} in {where}") for name, md5 in batches]
        images = np.concatenate([images for images, _ in read])
        labels = np.concatenate([labels for _, labels in read])
        check_half(half, images, labels, where)
        halves += [images, labels]
    return Arrays(*halves)


def _unpickle(content: bytes, md5: str, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    _check_md5(io.BytesIO(content), md5, where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of NumPy do, over what Python 2 wrote
        batch = pickle.loads(content, encoding="latin1")
    images = batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.asarray(batch["labels"], np.int64)


def _check_md5(file: io.BufferedIOBase, expected: str, where: str) -> None:
    digest = hashlib.file_digest(file, _md5).hexdigest()
    if digest != expected:
        raise DataError(f"{where} is damaged or not the official file: its md5 is {digest}; expected {expected}")


def _official_key() -> str:
    """One for batches, archive and download, whose images are the same."""
    return hashlib.sha256("".join(md5 for _, md5 in _batches()).encode()).hexdigest()


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(f"{BATCHES}/{name}")
    if file is None:
        raise KeyError(f"{BATCHES}/{name} is not a file")
    return file.read()


def _batches() -> list[tuple[str, str]]:
    tables = _torchvision()
    return [(name, md5) for name, md5 in (*tables.train_list, *tables.test_list)]


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


def _torchvision() -> Any:
    """Its table of addresses and hashes."""
    from torchvision.datasets import CIFAR10

    return CIFAR10
