"""The files that the authors of CIFAR-10 publish: pickled batches, the binary version, and archives of them.

Pickles run code, so none is opened before its md5 is the official one, and what was hashed is what is opened.
"""

import gzip
import hashlib
import io
import pickle
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe.config import CLASSES
from moe.data.dataset import IMAGE, Arrays, DataError
from moe.files import open_regular, read_regular

BATCHES, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
MD5 = {
    ARCHIVE: "c58f30108f718f92721af3b95e74349a",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
PICKLES = tuple(name for name in MD5 if name != ARCHIVE)
BINARIES = tuple(f"{name}.bin" for name in PICKLES)
MOST_BATCH, MOST_ARCHIVE, MOST_UNPACKED = 64 << 20, 1 << 30, 512 << 20  # bytes
_HEAD = 1 << 20  # bytes that the first header of an archive is in
_ROW = 1 + IMAGE[0] * IMAGE[1] * IMAGE[2]  # bytes of a label and its image, colour by colour

Read = Callable[[str], bytes]  # the content of a file by its name


def in_folder(folder: Path) -> Read:
    """Files of a folder."""
    return lambda name: read_regular(folder / name, MOST_BATCH)


def check_md5(path: str | Path, content: bytes | io.BufferedReader, name: str) -> None:
    """Compare a file with the md5 of the official file of that name.

    Raises:
        DataError: it is another.
    """
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    if (md5 := hashlib.file_digest(file, "md5").hexdigest()) != MD5[name]:
        raise DataError(f"{path} is damaged or not the official file: its md5 is {md5}; expected {MD5[name]}")


def read_pickles(read: Read, where: str | Path) -> Arrays:
    """The images of the pickled batches."""
    return _arrays([_unpickled(read(name), f"{where}/{name}", name) for name in PICKLES])


def read_binaries(read: Read, where: str | Path) -> Arrays:
    """The images of the binary version."""
    return _arrays([_rows(read(name), f"{where}/{name}") for name in BINARIES])


def _arrays(batches: list[tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> Arrays:
    """(N, 3 * 32 * 32) pixels, colour by colour, and labels of each batch, the test batch last."""
    halves: list[NDArray[Any]] = []
    for half in (batches[:-1], batches[-1:]):
        pixels = np.concatenate([pixels for pixels, _ in half]).reshape(-1, IMAGE[2], *IMAGE[:2])
        halves += [np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), np.concatenate([labels for _, labels in half])]
    return Arrays(*halves)


def _unpickled(content: bytes, path: str, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    check_md5(path, content, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of NumPy warn about what Python 2 pickled
        batch = pickle.loads(content, encoding="latin1")
    return np.asarray(batch["data"], np.uint8), np.asarray(batch["labels"], np.int64)


def _rows(content: bytes, path: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if not content or len(content) % _ROW:
        raise DataError(f"{path} has {len(content):,} bytes; expected rows of {_ROW:,}, as in the binary version")
    rows = np.frombuffer(content, np.uint8).reshape(-1, _ROW)
    if (label := int(rows[:, 0].max())) >= CLASSES:
        raise DataError(f"{path} has the label {label}; expected 0 to {CLASSES - 1}")
    return rows[:, 1:], rows[:, 0].astype(np.int64)


def _unpacked(archive: Path, most: int) -> io.BytesIO:
    """The first bytes of a tar archive without its compression: a header in it may claim any size."""
    with open_regular(archive, MOST_ARCHIVE) as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        return io.BytesIO(gzip.GzipFile(fileobj=file).read(most) if packed else file.read(most))


def first_folder(archive: Path) -> str:
    """The folder that a tar archive begins with; empty for what is none."""
    try:
        with tarfile.open(fileobj=_unpacked(archive, _HEAD)) as tar:
            first = tar.next()
            return first.name.removeprefix("./").split("/")[0] if first else ""
    except Exception:  # damaged bytes make tarfile and zlib raise almost anything
        return ""


def in_archive(archive: Path, names: tuple[str, ...]) -> Read:
    """Files of a tar archive, all read at once.

    Raises:
        DataError: one is missing.
        OSError: the archive cannot be read.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=_unpacked(archive, MOST_UNPACKED)) as tar:
            for member in tar:
                name = member.name.rpartition("/")[2]
                if name in names and member.isreg() and member.size <= MOST_BATCH and (part := tar.extractfile(member)):
                    found[name] = part.read()
    except OSError as error:
        if error.errno is not None:  # of the system; gzip's own have no number
            raise
        raise DataError(f"{archive} cannot be read as an archive: {error}") from error
    except Exception as error:  # damaged bytes make tarfile and zlib raise almost anything
        raise DataError(f"{archive} cannot be read as an archive: {error}") from error
    if missing := [name for name in names if name not in found]:
        raise DataError(f"{archive} has no {missing[0]}; expected the official batches")
    return found.__getitem__
