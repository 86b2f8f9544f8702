"""CIFAR-10's images in files of their own: encoded in Parquet files, or PNG folders by class.

train/airplane/0001.png ...    test/airplane/0001.png ...
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe.config import CLASS_NAMES
from moe.data.dataset import IMAGE, ROWS, Arrays, DataError
from moe.files import read_regular

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
NAMES = CLASS_NAMES["cifar10"]
MOST_IMAGE = 1 << 20  # bytes of a file with an image of 32 x 32 pixels

Half = Mapping[str, list[Path]]  # files by class


def decode(content: bytes | None, where: str) -> NDArray[np.uint8]:
    """(32, 32, 3) pixels of an encoded image."""
    from PIL import Image

    if content is None:
        raise DataError(f"{where} has no image")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.size != IMAGE[:2]:  # read from the header, before anything is decoded
                raise DataError(f"{where} is {image.width} x {image.height} pixels; expected 32 x 32")
            opaque = image.mode in ("RGB", "L", "P") and "transparency" not in image.info
            if not opaque and (image.mode != "RGBA" or image.getchannel("A").getextrema() != (255, 255)):
                kind = f"{image.mode}, transparent" if "transparency" in image.info else image.mode
                raise DataError(f"{where} has pixels of the kind {kind}; expected opaque RGB of 8 bits")
            return np.asarray(image.convert("RGB"))
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes
        raise DataError(f"{where} cannot be decoded as {', '.join(FORMATS)}: {error}") from error


def folders(half: Path) -> dict[str, Path]:
    """The folders in the folder of a half, by their names in lower case."""
    return {path.name.lower(): path for path in half.iterdir() if path.is_dir()}


def list_half(folder: Path, half: str, folders: Mapping[str, Path]) -> Half:
    """The images in the folders of the ten classes.

    Raises:
        DataError: a class is missing, or there are not as many images as CIFAR-10 has.
    """
    if missing := [name for name in NAMES if name not in folders]:
        raise DataError(f"{folder} has no folder {missing[0]}; expected one for each of {', '.join(NAMES)}")
    found = {
        name: sorted(
            path for path in folders[name].iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."
        )
        for name in NAMES
    }
    if (images := sum(map(len, found.values()))) != ROWS[half]:
        raise DataError(f"{folder} has {images} {half} images; expected {ROWS[half]}")
    return found


def digest(halves: Mapping[str, Half]) -> str:
    """A hash of the files' names, sizes and times: to hash 60,000 contents would take longer than to map the cache."""
    found = hashlib.sha256()
    for half in halves.values():
        for path in (path for paths in half.values() for path in paths):
            status = path.stat()
            found.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return found.hexdigest()


def read(halves: Mapping[str, Half]) -> Arrays:
    """The images of "train" and of "test", class after class."""
    arrays: list[NDArray[Any]] = []
    for half, classes in halves.items():
        paths = [(label, path) for label, name in enumerate(NAMES) for path in classes[name]]
        images = (decode(read_regular(path, MOST_IMAGE), str(path)) for _, path in paths)
        arrays.append(np.fromiter(images, np.dtype((np.uint8, IMAGE)), ROWS[half]))
        arrays.append(np.array([label for label, _ in paths], np.int64))
    return Arrays(*arrays)
