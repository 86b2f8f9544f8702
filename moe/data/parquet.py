"""CIFAR-10 in Parquet files: a struct column with an encoded image in `bytes`, and a column of labels.

Which half a file belongs to is in its name or in its folder's: train-00000-of-00002.parquet, train/0000.parquet.
"""

import hashlib
import json
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe.config import CLASS_NAMES, CLASSES
from moe.data.dataset import IMAGE, ROWS, Arrays, DataError
from moe.data.images import decode
from moe.files import open_regular

IMAGES, LABELS = ("img", "image"), ("label", "labels")  # what the columns are commonly called
MOST = 4 << 30  # bytes of a file
BATCH = 64  # rows that are read at once
POINTER = b"version https://git-lfs"
_SHARD = re.compile(r"(.*-)(\d+)-of-(\d+)\.parquet")
_HALF = {half: re.compile(rf"(.*[-_.])?{half}([-_.].*)?\.parquet", re.IGNORECASE) for half in ROWS}


def shards(folder: Path, files: Iterable[str], folders: Iterable[str]) -> dict[str, list[Path]]:
    """The Parquet files of each half in a folder, or in its folders of that name."""
    names = sorted(name for name in files if name.endswith(".parquet"))
    found = {half: [folder / name for name in names if form.fullmatch(name)] for half, form in _HALF.items()}
    for half in [half for half in ROWS if not found[half] and half in {*folders}]:
        found[half] = sorted(path for path in (folder / half).iterdir() if path.match("[!.]*.parquet"))
    return found


def check(shards: Mapping[str, list[Path]], folder: Path) -> None:
    """Check all that is known before anything is decoded: shards, columns, classes, and numbers of rows.

    Raises:
        DataError: a file is missing, there twice, damaged, or holds something else.
    """
    seen: dict[str, Path] = {}
    for half, paths in shards.items():
        if not paths:
            raise DataError(f"{folder} has no {half}-*.parquet; expected it beside the other half")
        _check_complete(paths)
        rows = 0
        for path in paths:
            with open_regular(path, MOST) as file:
                if (first := file.read(len(POINTER))) == POINTER:
                    raise DataError(f"{path} is a pointer of Git LFS; expected the file: git lfs pull fetches it")
                digest = hashlib.sha256(first)
                digest.update(hashlib.file_digest(file, "sha256").digest())
            if (other := seen.setdefault(digest.hexdigest(), path)) != path:
                raise DataError(f"{path} is the same as {other}; expected each image once")
            with _opened(path) as file:
                _columns(file.schema_arrow, path)  # which checks them and the classes
                rows += int(file.metadata.num_rows)
        if rows != ROWS[half]:
            raise DataError(f"{', '.join(map(str, paths))} has {rows} {half} images; expected {ROWS[half]}")


def _check_complete(paths: list[Path]) -> None:
    names = {path.name for path in paths}
    for path in paths:
        if found := _SHARD.fullmatch(path.name):
            stem, number, count = found.groups()
            all_names = (f"{stem}{index:0{len(number)}}-of-{count}.parquet" for index in range(min(int(count), 1000)))
            if missing := next((name for name in all_names if name not in names), None):
                raise DataError(f"{path.with_name(missing)} is missing; expected {int(count)} files like {path.name}")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with path.open("rb") as source, ParquetFile(source) as file:  # of any name, which need not be text
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be read as Parquet, it may be cut short: {reason}") from error


def read(shards: Mapping[str, list[Path]]) -> Arrays:
    """The images of the files of "train" and of "test", in the order of their files and rows.

    Raises:
        DataError: a file is damaged or holds something else; images are decoded after everything else is checked.
    """
    labels = {half: [label for path in paths for label in _labels(path)] for half, paths in shards.items()}
    halves: list[NDArray[Any]] = []
    for half, paths in shards.items():
        images = (image for path in paths for image in _images(path))
        halves += [np.fromiter(images, np.dtype((np.uint8, IMAGE)), ROWS[half]), np.array(labels[half], np.int64)]
    return Arrays(*halves)


def _labels(path: Path) -> list[int]:
    with _opened(path) as file:
        label = _columns(file.schema_arrow, path)[1]
        labels: list[int] = file.read([label])[label].to_pylist()
    for row, value in enumerate(labels):
        if value not in range(CLASSES):
            has = "no label" if value is None else f"the label {value}"
            raise DataError(f"row {row} of {path} has {has}; expected 0 to {CLASSES - 1}")
    return labels


def _images(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The images of a file, a few read at once: a value that is there once may stand for thousands."""
    from pyarrow.compute import struct_field

    row = 0
    with _opened(path) as file:
        image = _columns(file.schema_arrow, path)[0]
        for batch in file.iter_batches(BATCH, columns=[f"{image}.bytes"]):
            for content in struct_field(batch.column(0), "bytes").to_pylist():
                yield decode(content, f"row {row} of {path}")
                row += 1


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
