"""CIFAR-10 in Parquet files: a struct column with an encoded image in `bytes`, and a column of labels."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe.data.arrays import IMAGE, Arrays, DataError, check_half, check_labels

IMAGES, LABELS = ("img", "image"), ("label", "labels")  # how the columns are commonly called
FORMATS = ("PNG", "JPEG", "WEBP")
CHUNK = 1000  # rows held encoded at a time


def read(shards: dict[str, list[Path]]) -> Arrays:
    """The images of both halves, in the order of their files and rows.

    Args:
        shards: the files of "train" and of "test".

    Raises:
        DataError: a file is damaged or holds something else.
    """
    halves: list[NDArray[Any]] = []
    for half, paths in shards.items():
        read = [_read_shard(path) for path in paths]
        images = np.concatenate([images for images, _ in read])
        labels = np.concatenate([labels for _, labels in read])
        check_half(half, images, labels, ", ".join(map(str, paths)))
        halves += [images, labels]
    return Arrays(*halves)


def _read_shard(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = [], []
    for row, (content, label) in enumerate(_rows(path)):
        images.append(_decode(content, f"row {row} of {path}"))
        labels.append(label)
    missing = [row for row, label in enumerate(labels) if label is None]
    if missing:
        raise DataError(f"row {missing[0]} of {path} has no label; expected 0 to 9")
    check_labels(np.array(labels), str(path))
    return np.array(images, np.uint8).reshape(-1, *IMAGE), np.array(labels, np.int64)


def _rows(path: Path) -> Iterator[tuple[bytes | None, int | None]]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            image, label = _columns(file.schema_arrow, path)
            for batch in file.iter_batches(CHUNK, columns=[f"{image}.bytes", label]):
                content = batch.column(image).field("bytes")
                yield from zip(content.to_pylist(), batch.column(label).to_pylist(), strict=True)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read as Parquet, it may be cut short: {reason}") from error


def _columns(schema: Any, path: Path) -> tuple[str, str]:
    from pyarrow import types

    kinds = {field.name: field.type for field in schema}
    images = [name for name in IMAGES if name in kinds and _holds_bytes(kinds[name])]
    images += [name for name in kinds if _holds_bytes(kinds[name])]
    labels = [name for name in LABELS if name in kinds and types.is_integer(kinds[name])]
    if not images or not labels:
        has = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise DataError(
            f"{path} has the columns {has}; expected an image struct with `bytes` "
            f"(named {' or '.join(IMAGES)}) and an integer {' or '.join(LABELS)}"
        )
    return images[0], labels[0]


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    if not types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    content = kind.field("bytes").type
    return bool(types.is_binary(content) or types.is_large_binary(content))


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
