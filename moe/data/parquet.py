"""CIFAR-10 in Parquet files: a struct column with an encoded image in `bytes`, and a column of labels."""

import io
import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe.config import CLASS_NAMES, CLASSES
from moe.data.dataset import IMAGE, ROWS, Arrays, DataError

IMAGES, LABELS = ("img", "image"), ("label", "labels")  # what the columns are commonly called
FORMATS = ("PNG", "JPEG", "WEBP")


def read(shards: Mapping[str, list[Path]]) -> Arrays:
    """The images of the files of "train" and of "test", in the order of their files and rows.

    Raises:
        DataError: a file is damaged or holds something else; images are decoded after everything else is checked.
    """
    encoded = {half: {path: _read_columns(path) for path in paths} for half, paths in shards.items()}
    for half, files in encoded.items():
        if (rows := sum(len(labels) for _, labels in files.values())) != ROWS[half]:
            raise DataError(f"{', '.join(map(str, files))} has {rows} {half} images; expected {ROWS[half]}")
    halves: list[NDArray[Any]] = []
    for half, files in encoded.items():
        images = (_decode(one, f"row {row} of {path}") for path in files for row, one in enumerate(files[path][0]))
        halves.append(np.fromiter(images, np.dtype((np.uint8, IMAGE)), ROWS[half]))
        halves.append(np.array([label for _, labels in files.values() for label in labels], np.int64))
    return Arrays(*halves)


def _read_columns(path: Path) -> tuple[list[bytes | None], list[int]]:
    """A file's encoded images and its labels."""
    import pyarrow
    from pyarrow.compute import struct_field
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            image, label = _columns(file.schema_arrow, path)
            table = file.read([f"{image}.bytes", label])
            contents, labels = struct_field(table[image], "bytes").to_pylist(), table[label].to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be read as Parquet, it may be cut short: {reason}") from error
    for row, value in enumerate(labels):
        if value not in range(CLASSES):
            has = "no label" if value is None else f"the label {value}"
            raise DataError(f"row {row} of {path} has {has}; expected 0 to {CLASSES - 1}")
    return contents, labels


def _columns(schema: Any, path: Path) -> tuple[str, str]:
    """The names of the columns with the images and with the labels."""
    from pyarrow.types import is_integer

    kinds = {field.name: field.type for field in schema}
    if "fine_label" in kinds:
        raise DataError(f"{path} is CIFAR-100, with the column fine_label; expected CIFAR-10")
    images = [name for name in (*IMAGES, *kinds) if name in kinds and _holds_bytes(kinds[name])]
    labels = [name for name in LABELS if name in kinds and is_integer(kinds[name])]
    if not images or not labels:
        has = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise DataError(
            f"{path} has the columns {has}; expected an image struct with `bytes` "
            f"(named {' or '.join(IMAGES)}) and an integer {' or '.join(LABELS)}"
        )
    _check_classes(schema, labels[0], path)
    return images[0], labels[0]


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    if not types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    content = kind.field("bytes").type
    return bool(types.is_binary(content) or types.is_large_binary(content))


def _check_classes(schema: Any, label: str, path: Path) -> None:
    """Refuse other classes, or these in another order, where Hugging Face's metadata names them."""
    try:
        names = tuple(json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]["names"])
    except (TypeError, LookupError, ValueError, RecursionError):
        return  # there is no such metadata
    if names and names != (expected := CLASS_NAMES["cifar10"]):
        has = "CIFAR-100's 100 classes" if len(names) == 100 else f"the classes {reprlib.repr(names)}"
        raise DataError(f"{path} has {has}; expected {', '.join(expected)}, in this order")


def _decode(content: bytes | None, where: str) -> NDArray[np.uint8]:
    from PIL import Image

    if content is None:
        raise DataError(f"{where} has no image")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.size != IMAGE[:2]:  # read from the header, before anything is decoded
                raise DataError(f"{where} is {image.width} x {image.height} pixels; expected 32 x 32")
            return np.asarray(image.convert("RGB"))
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes
        raise DataError(f"{where} cannot be decoded as {', '.join(FORMATS)}: {error}") from error
