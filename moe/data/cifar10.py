"""CIFAR-10 in a folder, in one of three forms, or on the network.

    cifar-10-batches-py/data_batch_1 ...    the official batches (or the folder itself holds them)
    cifar-10-python.tar.gz                  the official archive of the same batches
    train-*.parquet, test-*.parquet         the form in which CIFAR-10 is commonly redistributed

Official files are pickles, so none is opened before its md5 is compared with the one in torchvision.
"""

import hashlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moe.data import parquet
from moe.data.dataset import Arrays, DataError
from moe.data.download import download

BATCHES, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
FORMS = f"{BATCHES}/, {ARCHIVE}, or train-*.parquet and test-*.parquet"
OFFICIAL = "cifar10-official"  # names batches, archive and download in the cache: their images are the same


@dataclass(frozen=True)
class Source:
    """CIFAR-10 that was found; reading raises a `DataError` where it cannot be had."""

    where: str  # in words
    name: str  # in the cache
    read: Callable[[], Arrays]


def find(folder: Path) -> Source:
    """The form of CIFAR-10 that a folder holds; the md5 of official files is checked already.

    Raises:
        DataError: there is no such folder, nothing in it is CIFAR-10, or a file is missing or damaged.
    """
    with _one_sentence(str(folder)):
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; expected one with {FORMS}")
        if source := _in_batches(folder) or _in_archive(folder) or _in_parquet(folder):
            return source
        other = [path.name for path in (folder, *folder.iterdir()) if path.name.startswith("cifar-100")]
        raise DataError(f"{folder} holds {f'CIFAR-100 ({other[0]})' if other else 'no CIFAR-10'}; expected {FORMS}")


def online() -> Source:
    """The official archive on the network."""
    known = _torchvision()

    def read() -> Arrays:
        with _one_sentence(known.url), tempfile.TemporaryDirectory(prefix="cifar10-") as folder:
            download(known.url, known.tgz_md5, Path(folder) / ARCHIVE)
            return _read_archive(Path(folder) / ARCHIVE)

    return Source(known.url, OFFICIAL, read)


def _in_batches(folder: Path) -> Source | None:
    batches = folder / BATCHES if (folder / BATCHES).is_dir() else folder
    if batches == folder and not any(folder.glob("*_batch*")):
        return None
    known = _torchvision()
    files = {**dict(known.train_list), **dict(known.test_list), known.meta["filename"]: known.meta["md5"]}
    for name, md5 in files.items():
        if not (batches / name).is_file():
            raise DataError(f"{batches / name} is missing; expected the official files {', '.join(files)}")
        _check_md5(batches / name, md5)
    return Source(f"the official batches in {batches}", OFFICIAL, lambda: _read_batches(batches, str(batches)))


def _in_archive(folder: Path) -> Source | None:
    archive = folder / ARCHIVE
    if not archive.is_file():
        return None
    _check_md5(archive, _torchvision().tgz_md5)
    return Source(f"the official archive {archive}", OFFICIAL, lambda: _read_archive(archive))


def _in_parquet(folder: Path) -> Source | None:
    shards = {half: sorted(folder.glob(f"{half}-*.parquet")) for half in ("train", "test")}
    if not any(shards.values()):
        return None
    digest = hashlib.sha256()
    for half, paths in shards.items():
        if not paths:
            raise DataError(f"{folder} has no {half}-*.parquet; expected it beside the other half")
        for path in paths:
            with path.open("rb") as file:
                digest.update(half.encode() + hashlib.file_digest(file, "sha256").digest())
    return Source(f"Parquet files in {folder}", f"cifar10-{digest.hexdigest()}", lambda: parquet.read(shards))


def _read_archive(archive: Path) -> Arrays:
    from torchvision.datasets.utils import extract_archive

    with _one_sentence(str(archive)), tempfile.TemporaryDirectory(prefix="cifar10-") as folder:
        extract_archive(archive, folder)
        return _read_batches(Path(folder) / BATCHES, str(archive))


def _read_batches(folder: Path, where: str) -> Arrays:
    """Read with torchvision, which checks the md5 of every batch before it unpickles the first."""
    batches = type("Batches", (_torchvision(),), {"base_folder": folder.name})
    with _one_sentence(where), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of NumPy warn about what Python 2 pickled
        train, test = (batches(folder.parent, train=half) for half in (True, False))
    return Arrays(
        *(np.ascontiguousarray(train.data), np.array(train.targets, np.int64)),
        *(np.ascontiguousarray(test.data), np.array(test.targets, np.int64)),
    )


def _check_md5(path: Path, expected: str) -> None:
    from torchvision.datasets.utils import calculate_md5

    if (md5 := calculate_md5(path)) != expected:
        raise DataError(f"{path} is damaged or not the official file: its md5 is {md5}; expected {expected}")


@contextmanager
def _one_sentence(where: str) -> Iterator[None]:
    """Turn the errors of the system and of torchvision into a `DataError`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{getattr(error, 'filename', None) or where} cannot be read: {reason}") from error


def _torchvision() -> Any:
    """The class that holds the address and the hashes; imported when needed, which takes a second."""
    from torchvision.datasets import CIFAR10

    return CIFAR10
