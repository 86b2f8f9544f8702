# ruff: noqa: E501 - a row of the table is a line
"""Forms of CIFAR-10 that people have, and what is wrong with some."""

import gzip
import os
import shutil
import subprocess
import sys
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from moe.data import DataError, cifar10, load, official
from moe.data import cache as caches
from moe.metrics import score
from moe.stages import by_superclass
from tests.faults.data_scene import (
    NAMES,
    archive,
    binary,
    by_class,
    content,
    halves,
    parquet,
    pickled,
    shard,
    small,
    tar,
    under,
    write,
)
from tests.faults.hostile import FILES
from tests.faults.table import Fault


def found(files: Callable[[], dict[str, bytes]], named: str, folder: Path) -> None:
    """The form is read, with every image under its label."""
    with small(folder):
        data = load("cifar10", write(folder / "data", files()) / named)
        pairs = ((data.train_images, data.train_labels), (data.test_images, data.test_labels))
        read = [
            sorted((image.permute(1, 2, 0).numpy().tobytes(), int(label)) for image, label in zip(*pair, strict=True))
            for pair in pairs
        ]
        wanted = ((content().train_images, content().train_labels), (content().test_images, content().test_labels))
        assert read == [
            sorted((image.tobytes(), int(label)) for image, label in zip(*pair, strict=True)) for pair in wanted
        ]


def refused(files: Callable[[], dict[str, bytes]], words: tuple[str, ...], folder: Path) -> None:
    """It is refused before anything is decoded, in one sentence with these words."""
    root = write(folder / "data", files())
    root.mkdir(exist_ok=True)
    with small(folder), mock.patch("PIL.Image.open", side_effect=AssertionError("decoded")):
        began = time.monotonic()
        sentence = cifar10.missing(root) or "accepted"
    assert time.monotonic() - began < 2
    assert "\n" not in sentence
    for word in words:
        assert word in sentence, sentence


def refused_when_read(files: Callable[[], dict[str, bytes]], words: str, folder: Path) -> None:
    """It is refused in a sentence with these words, once its images are there."""
    with small(folder):
        try:
            load("cifar10", write(folder / "data", files()))
        except DataError as error:
            assert words in str(error), error  # noqa: PT017
        else:
            raise AssertionError("it is accepted")


def replaced(half: str, images: object, labels: object) -> dict[str, bytes]:
    """Parquet files with one half that holds these."""
    return {**parquet("train.parquet", "test.parquet"), f"{half}.parquet": shard(images, labels)}


def looks_at_little(folder: Path) -> None:
    """An archive whose first header claims a size takes no such memory."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 256 << 20
    bomb = gzip.compress(header.tobuf() + bytes(header.size), 1)
    with small(folder):
        root = write(folder / "data", {**parquet(), "x.tgz": bomb})
        tracemalloc.start()
        assert cifar10.missing(root) is None
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 64 << 20


def in_place_of_a_file(make: Callable[[Path], object], name: str, folder: Path) -> None:
    """Something else stands in place of a file of the data."""
    root = write(
        folder / "data", {**under(official.BATCHES, pickled()), **under("p", parquet()), "a/x.tar.gz": archive()}
    )
    shutil.rmtree(root / "a") if not name.startswith("a/") else None
    if name.startswith("p/"):
        shutil.rmtree(root / official.BATCHES)
    elif name.startswith("a/"):
        shutil.rmtree(root / official.BATCHES)
        shutil.rmtree(root / "p")
    else:
        shutil.rmtree(root / "p")
    (root / name).unlink()
    make(root / name)
    with small(folder):
        began = time.monotonic()
        assert cifar10.missing(root)
        assert time.monotonic() - began < 2


def in_place_of_the_cache(make: Callable[[Path], object], folder: Path) -> None:
    """Something else stands in place of a data set in the cache."""
    import warnings

    with small(folder), warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        root = write(folder / "data", parquet())
        source = cifar10.find(root)
        (folder / "cache").mkdir()
        make(folder / "cache" / f"{source.name}.safetensors")
        assert caches.load(folder / "cache", source.name) is None
        assert len(load("cifar10", root).train_labels) == 50


def home(folder: Path) -> None:
    """~ stands for the home folder, in --data and in CIFAR10_DIR."""
    with small(folder), mock.patch.dict(os.environ, {"HOME": str(folder)}):
        write(folder / "data", parquet())
        assert cifar10.missing("~/data") is None
        with mock.patch.dict(os.environ, {"CIFAR10_DIR": "~/data"}):
            assert len(load("cifar10").train_labels) == 50


def refused_by(command: str, folder: Path) -> None:
    """A command refuses a wrong folder in under two seconds and without torch."""
    (folder / "notes.txt").write_text("mine")
    code = f"import sys, {command} as c; code = c.main(['--data', {str(folder)!r}]); print(int(code), 'torch' in sys.modules)"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["4", "False"], done
    assert "notes.txt" in done.stderr
    assert time.monotonic() - began < 2 * (1 + os.getloadavg()[0])  # other tests run beside this one


def predicts_one_class(stage: str, folder: Path) -> None:
    """The result marks a baseline or a mixture that predicts one class for every image."""
    labels = torch.arange(20) % 10
    sure = torch.eye(10)[labels].mul(20).log_softmax(1)
    one = torch.eye(10)[torch.full_like(labels, 3)].mul(20).log_softmax(1)
    gate = torch.eye(2)[by_superclass(labels)[1]].mul(20).log_softmax(1)
    predicted = {"baseline": sure, "artificial": sure, "natural": sure, "gate": gate}
    weights = torch.zeros(20, 10, 2)
    weights[:, :, 1] = 50.0
    for name in {"baseline": ("baseline",), "mixture": ("artificial", "natural")}[stage]:
        predicted[name] = one
    found = score(predicted, {"gate": weights, "oracle": weights}, labels)
    assert found[0].constant


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 119705255\n"
STRAY = {"train_batch.sh": b"#!/bin/sh", "my_batch_job.slurm": b"#SBATCH", "notes.txt": b"mine"}
two = {"0": "train-00000-of-00002.parquet", "1": "train-00001-of-00002.parquet"}


def shards_of_two(*present: str) -> dict[str, bytes]:
    images, labels = content().train_images, content().train_labels
    parts = {"0": shard(images[:30], labels[:30]), "1": shard(images[30:], labels[30:])}
    return {"test-00000-of-00001.parquet": halves()[1], **{two[number]: parts[number] for number in present}}


#: what people have, its files, and the path that they give
FORMS: tuple[tuple[str, str, Callable[[], dict[str, bytes]], str], ...] = (
    ("E22", "an empty cifar-10-batches-py beside an archive", lambda: {"a.tar.gz": archive(), f"{official.BATCHES}/x": b""}, ""),
    ("E22", "an empty cifar-10-batches-py beside Parquet", lambda: {**parquet(), f"{official.BATCHES}/x": b""}, ""),
    ("E22", "a name for an archive that holds 3 bytes", lambda: {**parquet(), "x.tgz": b"\x1f\x8b\x08"}, ""),
    ("E22", "scripts named *_batch* beside Parquet", lambda: {**parquet(), **STRAY}, ""),
    ("E22", "damaged batches beside Parquet", lambda: {**parquet(), **pickled(), "data_batch_2": b"x"}, ""),
    ("E22", "other Parquet files beside", lambda: {**parquet(), "results.parquet": b"x", "sub/train.parquet": b"y"}, ""),
    ("E23", "batches one level down", lambda: under(official.BATCHES, pickled()), ""),
    ("E23", "batches two levels down", lambda: under(f"raw/{official.BATCHES}", pickled()), ""),
    ("E23", "Keras 3's folder", lambda: under(f"cifar-10-batches-py-target/{official.BATCHES}", pickled()), ""),
    ("E23", "Keras's archive", lambda: {"cifar-10-batches-py.tar.gz": archive()}, ""),
    ("E23", "a browser's second download", lambda: {"cifar-10-python (1).tar.gz": archive()}, ""),
    ("E23", "an archive of any name", lambda: {"data/download.tgz": archive()}, ""),
    ("E23", "the archive as DIR", lambda: {"a.tar.gz": archive()}, "a.tar.gz"),
    ("E23", "the archive without gzip", lambda: {"cifar-10-python.tar": tar(pickled(), official.BATCHES, "w:")}, ""),
    ("E23", "a batch as DIR", lambda: pickled(), "data_batch_3"),
    ("E23", "a Parquet file as DIR", lambda: parquet(), "train-00000-of-00001.parquet"),
    ("E23", "a clone from a hub", lambda: under("plain_text", parquet()), ""),
    ("E23", "a hub's cache", lambda: under("snapshots/0a1b/plain_text", parquet()), ""),
    ("E23", "train/0000.parquet", lambda: under("plain_text", parquet("train/0000.parquet", "test/0000.parquet")), ""),
    ("E23", "train.parquet", lambda: parquet("train.parquet", "test.parquet"), ""),
    ("E23", "two shards", lambda: shards_of_two("0", "1"), ""),
    ("E23", "the binary version", lambda: under("cifar-10-batches-bin", binary()), ""),
    ("E23", "the binary version's archive", lambda: {"cifar-10-binary.tar.gz": tar(binary(), "cifar-10-batches-bin")}, ""),
    ("E23", "PNG folders by class", lambda: by_class(), ""),
    ("E23", "PNG folders by class one level down", lambda: by_class("cifar10/"), ""),
)  # fmt: skip


#: what is refused, its files, and words of the sentence
REFUSED: tuple[tuple[str, str, Callable[[], dict[str, bytes]], tuple[str, ...]], ...] = (
    ("A7", "classes in another order", lambda: {**parquet(), "test-00000-of-00001.parquet": shard(content().test_images, content().test_labels, NAMES[::-1])}, ("'truck'", "in this order")),
    ("A7", "a train half in alphabetical order", lambda: {**parquet(), "train-00000-of-00001.parquet": shard(content().train_images, content().train_labels, sorted(NAMES, key=lambda name: name[1:]))}, ("in this order",)),
    ("A7", "the same file for both halves", lambda: {"train.parquet": halves()[0], "test.parquet": halves()[0]}, ("test.parquet", "the same")),
    ("E23", "an empty folder", dict, ("0 files",)),
    ("E23", "files of another kind", lambda: STRAY, ("3 files", "my_batch_job.slurm")),
    ("E23", "CIFAR-100's folder", lambda: {"cifar-100-python/train": b"x"}, ("CIFAR-100",)),
    ("E23", "CIFAR-100's archive", lambda: {"cifar-100-python.tar.gz": b"x"}, ("CIFAR-100",)),
    ("E23", "CIFAR-100's archive under another name", lambda: {"data.tgz": tar({"train": b"x"}, "cifar-100-python")}, ("CIFAR-100",)),
    ("E23", "CIFAR-100 in Parquet", lambda: {**parquet(), "train-00000-of-00001.parquet": shard(content().train_images, content().train_labels, label="fine_label")}, ("CIFAR-100", "fine_label")),
    ("E23", "Kaggle's", lambda: {"trainLabels.csv": b"id,label\n1,frog\n", "train/1.png": b"x", "test/1.png": b"x"}, ("Kaggle", "test images have no labels")),
    ("E23", "MATLAB's", lambda: {"data_batch_1.mat": b"MATLAB 5.0"}, ("MATLAB",)),
    ("E23", "batches of which one is missing", lambda: {name: file for name, file in pickled().items() if name != "data_batch_4"}, ("data_batch_4 is missing",)),
    ("E23", "binaries of which one is missing", lambda: {name: file for name, file in binary().items() if name != "test_batch.bin"}, ("test_batch.bin is missing",)),
    ("E23", "classes of which one is missing", lambda: {name: file for name, file in by_class().items() if "/cat/" not in name}, ("has no folder cat",)),
    ("E23", "an archive cut short", lambda: {"cifar-10-python.tar.gz": archive()[:2000]}, ("damaged or not the official file",)),
    ("E24", "a pointer of Git LFS", lambda: {**parquet(), "train-00000-of-00001.parquet": LFS}, ("Git LFS", "git lfs pull")),
    ("E24", "a shard that is missing", lambda: shards_of_two("1"), (f"{two['0']} is missing",)),
    ("E24", "a shard that is there twice", lambda: {"test.parquet": halves()[1], two["0"]: halves()[0], two["1"]: halves()[0]}, ("the same as",)),
    ("E24", "a half with too few rows", lambda: {**parquet(), "train-00000-of-00001.parquet": shard(content().train_images[:40], content().train_labels[:40])}, ("40 train images", "expected 50")),
    ("E24", "a Parquet file cut short", lambda: {**parquet(), "train-00000-of-00001.parquet": halves()[0][:-9]}, ("may be cut short",)),
)  # fmt: skip


def train(images: int) -> np.ndarray:
    return content().train_images[:images]


LABELS = np.arange(50) % 10

#: what is refused once it is decoded, its files, and words of the sentence
UNLIKE: tuple[tuple[str, Callable[[], dict[str, bytes]], str], ...] = (
    ("a test half that repeats train images", lambda: replaced("test", train(10), LABELS[:10]), "10 test images that are train images"),
    ("a test half of one train image", lambda: replaced("test", train(1).repeat(10, 0), LABELS[:10]), "10 test images that are train images"),
    ("a test half of one image", lambda: replaced("test", content().test_images[:1].repeat(10, 0), LABELS[:10]), "9 test images that are there already"),
    ("a train half in which each image is there twice", lambda: replaced("train", train(25).repeat(2, 0), LABELS), "25 train images that are there already"),
    ("a test half without a class", lambda: replaced("test", content().test_images, [*LABELS[:9], 0]), "0 test images with the label 9"),
    ("grey of 16 bits", lambda: replaced("test", content().test_images[..., 0].astype(np.uint16) << 8, LABELS[:10]), "row 0 of"),
    ("transparent images", lambda: replaced("test", np.zeros((10, 32, 32, 4), np.uint8), LABELS[:10]), "RGBA; expected opaque RGB"),
)  # fmt: skip


FAULTS = (
    *(
        Fault(kind, what, "moe.data", "read, each image under its label", partial(found, files, named))
        for kind, what, files, named in FORMS
    ),
    *(
        Fault(kind, what, "moe.data", "named, before anything is decoded", partial(refused, files, words))
        for kind, what, files, words in REFUSED
    ),
    *(
        Fault(
            "A7",
            f"a {stage} that predicts one class",
            "moe.metrics",
            "marked in the result",
            partial(predicts_one_class, stage),
        )
        for stage in ("baseline", "mixture")
    ),
    *(
        Fault("A7", what, "moe.data", "refused", partial(refused_when_read, files, words))
        for what, files, words in UNLIKE
    ),
    Fault("E22", "an archive whose header claims 256 MiB", "moe.data", "looked at for 1 MiB", looks_at_little),
    *(
        Fault("B9", f"{kind} in place of {name}", "moe.data", "refused in 2 s", partial(in_place_of_a_file, make, name))
        for kind, make in FILES.items()
        for name in (f"{official.BATCHES}/data_batch_2", "p/train-00000-of-00001.parquet", "a/x.tar.gz")
    ),
    *(
        Fault(
            "B9", f"{kind} in place of a data set", "the cache", "decoded again", partial(in_place_of_the_cache, make)
        )
        for kind, make in FILES.items()
    ),
    *(
        Fault("E25", "a folder without CIFAR-10", command, "refused in 2 s without torch", partial(refused_by, command))
        for command in ("moe.__main__", "study.run")
    ),
    Fault("H38", "~ in --data and CIFAR10_DIR", "moe.data", "the home folder", home),
)
