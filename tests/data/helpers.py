"""A small CIFAR-10 in every form that people have it in."""

import hashlib
import io
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from moe.data import official

ROWS = {"train": 50, "test": 10}
REAL = Path(os.environ.get("CIFAR10_DIR") or Path(__file__).parents[3] / "shared" / "cifar10")
NAMES = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]


class Python2Pickler(pickle.Pickler):
    """Writes dtypes as NumPy did for Python 2, which some versions of NumPy warn about."""

    def reducer_override(self, value):
        return (python2_dtype, ("u1", 0, 1)) if isinstance(value, np.dtype) else NotImplemented


def python2_dtype(*arguments):
    warnings.warn("dtype(): align should be passed as a boolean", DeprecationWarning, stacklevel=2)
    return np.dtype(*arguments)


def python2_pickle(value):
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue()


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def know(monkeypatch, folder):
    """Enter the batches into the table of hashes."""
    for name in NAMES:
        monkeypatch.setitem(official.MD5, name, md5(folder / name))


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write_parquet(path, images, labels, *, image="img", label="label", metadata=None):
    path.parent.mkdir(exist_ok=True)
    encoded = [one if isinstance(one, bytes | None) else png(one) for one in images]
    column = pa.array(
        [{"bytes": one, "path": "x.png"} for one in encoded],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({image: column, label: pa.array(labels, pa.int64())})
    pq.write_table(table.replace_schema_metadata(metadata), path)


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path, position=-1):
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 1
    path.write_bytes(damaged)


def entries(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").glob("*"))


def same_images(data, content):
    return (
        torch.equal(data.train_images, torch.from_numpy(content.train_images).permute(0, 3, 1, 2))
        and torch.equal(data.train_labels, torch.from_numpy(content.train_labels))
        and torch.equal(data.test_images, torch.from_numpy(content.test_images).permute(0, 3, 1, 2))
        and torch.equal(data.test_labels, torch.from_numpy(content.test_labels))
    )
