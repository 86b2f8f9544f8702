"""A small CIFAR-10 in every form, a cache of each test's own, and no network."""

import tarfile

import numpy as np
import pytest

from moe.config import CLASS_NAMES
from moe.data import dataset, official
from tests.data.helpers import (
    NAMES,
    ROWS,
    know,
    md5,
    png,
    python2_pickle,
    write_parquet,
)


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """A small CIFAR-10, a cache of one's own, and no network."""
    for half, rows in ROWS.items():
        monkeypatch.setitem(dataset.ROWS, half, rows)
    monkeypatch.setenv("MOE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setattr(official, "URL", "http://127.0.0.1:9/cifar-10-python.tar.gz")


@pytest.fixture
def content():
    """Images (N, 32, 32, 3) and labels of both halves."""
    rng = np.random.default_rng(0)
    halves = {
        half: (rng.integers(0, 256, (rows, 32, 32, 3), np.uint8), rng.permutation(np.arange(rows) % 10))
        for half, rows in ROWS.items()
    }
    return dataset.Arrays(*halves["train"], *halves["test"])


@pytest.fixture
def batches(tmp_path, monkeypatch, content):
    """A folder with official batches, whose hashes are in the table."""
    folder = tmp_path / "official" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    images = np.concatenate([content.train_images, content.test_images])
    labels = np.concatenate([content.train_labels, content.test_labels])
    for k, name in enumerate(NAMES):
        part = slice(10 * k, 10 * k + 10)
        pixels = images[part].transpose(0, 3, 1, 2).reshape(10, -1)
        (folder / name).write_bytes(python2_pickle({"data": pixels, "labels": labels[part].tolist()}))
    (folder / "batches.meta").write_bytes(python2_pickle({"label_names": list(CLASS_NAMES["cifar10"])}))
    know(monkeypatch, folder)
    return folder


@pytest.fixture
def archive(tmp_path, monkeypatch, batches):
    """The official archive in a folder of its own."""
    path = tmp_path / "archive" / "cifar-10-python.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        tar.add(batches, "cifar-10-batches-py")
    monkeypatch.setitem(official.MD5, official.ARCHIVE, md5(path))
    return path


@pytest.fixture
def parquet(tmp_path, content):
    """A folder with Parquet files, the train half in two shards."""
    folder = tmp_path / "parquet"
    write_parquet(folder / "train-00000-of-00002.parquet", content.train_images[:30], content.train_labels[:30])
    write_parquet(folder / "train-00001-of-00002.parquet", content.train_images[30:], content.train_labels[30:])
    write_parquet(folder / "test-00000-of-00001.parquet", content.test_images, content.test_labels)
    return folder


@pytest.fixture
def classes(tmp_path, content):
    """A folder with PNGs by class, whose names begin with a capital."""
    for half in ROWS:
        images, labels = getattr(content, f"{half}_images"), getattr(content, f"{half}_labels")
        for k, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = tmp_path / "classes" / half / CLASS_NAMES["cifar10"][label].title()
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{k:04}.PNG").write_bytes(png(image))
    return tmp_path / "classes"
