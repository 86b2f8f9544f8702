"""A CIFAR-10 of 60 images that stands for the real one, in the forms that people have."""

import io
import json
import os
import pickle
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from moe.config import CLASS_NAMES
from moe.data import dataset, official
from moe.data.dataset import Arrays

ROWS = {"train": 50, "test": 10}
NAMES = CLASS_NAMES["cifar10"]


@cache
def content() -> Arrays:
    """The images and labels."""
    rng = np.random.default_rng(0)
    halves = {
        half: (rng.integers(0, 256, (rows, 32, 32, 3), np.uint8), np.arange(rows) % 10) for half, rows in ROWS.items()
    }
    return Arrays(*halves["train"], *halves["test"])


@contextmanager
def small(folder: Path) -> Iterator[None]:
    """A CIFAR-10 of 60 images whose official files are those that `pickles` and `archive` make."""
    with (
        mock.patch.dict(dataset.ROWS, ROWS),
        mock.patch.dict(official.MD5, known()),
        mock.patch.dict(os.environ, {"MOE_CACHE": str(folder / "cache")}),
    ):
        os.environ.pop("CIFAR10_DIR", None)
        yield


def batches() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The name, pixels and labels of each official batch."""
    images = np.concatenate([content().train_images, content().test_images]).transpose(0, 3, 1, 2).reshape(60, -1)
    labels = np.concatenate([content().train_labels, content().test_labels])
    for number, name in enumerate(official.PICKLES):
        yield name, images[10 * number :][:10], labels[10 * number :][:10]


def pickled() -> dict[str, bytes]:
    return {name: pickle.dumps({"data": pixels, "labels": labels.tolist()}, 2) for name, pixels, labels in batches()}


def binary() -> dict[str, bytes]:
    return {
        f"{name}.bin": np.concatenate([labels.astype(np.uint8)[:, None], pixels], 1).tobytes()
        for name, pixels, labels in batches()
    }


def tar(files: dict[str, bytes], folder: str, mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@cache
def archive() -> bytes:
    return tar(pickled(), official.BATCHES)


@cache
def known() -> dict[str, str]:
    import hashlib

    files = {**pickled(), official.ARCHIVE: archive()}
    return {name: hashlib.md5(content).hexdigest() for name, content in files.items()}


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def shard(images, labels, names=NAMES, label: str = "label") -> bytes:
    """A Parquet file as Hugging Face writes it."""
    column = pa.array(
        [{"bytes": png(image), "path": None} for image in images],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({"img": column, label: pa.array(labels, pa.int64())})
    features = {"info": {"features": {label: {"names": list(names), "_type": "ClassLabel"}}}}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), buffer)
    return buffer.getvalue()


@cache
def halves() -> tuple[bytes, bytes]:
    """The Parquet files of both halves."""
    found = content()
    return shard(found.train_images, found.train_labels), shard(found.test_images, found.test_labels)


def parquet(train: str = "train-00000-of-00001.parquet", test: str = "test-00000-of-00001.parquet") -> dict[str, bytes]:
    return dict(zip((train, test), halves(), strict=True))


def by_class(root: str = "") -> dict[str, bytes]:
    found = content()
    pairs = (("train", found.train_images, found.train_labels), ("test", found.test_images, found.test_labels))
    return {
        f"{root}{half}/{NAMES[label]}/{number:04d}.png": png(image)
        for half, images, labels in pairs
        for number, (image, label) in enumerate(zip(images, labels, strict=True))
    }


def under(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": content for name, content in files.items()}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
