"""What a folder with CIFAR-10 may hold."""

import hashlib
import tracemalloc

import numpy as np
import pytest
import torch

from moe.data import cifar10, dataset, load, parquet
from tests.data.helpers import (
    REAL,
    ROWS,
    png,
    same_images,
    write_parquet,
)


@pytest.mark.parametrize("form", ["batches", "archive", "parquet"])
def test_every_form_gives_the_same_images_and_fingerprint(form, request, content):
    path = request.getfixturevalue(form)
    folder = path if path.is_dir() else path.parent
    data = load("cifar10", folder)
    assert same_images(data, content)
    assert data.name == "cifar10"
    assert str(folder) in data.source
    digest = hashlib.sha256()
    for array in (content.train_images, content.train_labels, content.test_images, content.test_labels):
        digest.update(array.tobytes())
    assert data.fingerprint == digest.hexdigest()


def test_png_folders_give_the_same_images_class_after_class(classes, content):
    data = load("cifar10", classes)
    for images, labels, half in (
        (data.train_images, data.train_labels, "train"),
        (data.test_images, data.test_labels, "test"),
    ):
        expected = getattr(content, f"{half}_labels")
        order = np.argsort(expected, kind="stable")
        assert labels.tolist() == expected[order].tolist()
        found = images.permute(0, 2, 3, 1).numpy()
        assert (found == getattr(content, f"{half}_images")[order]).all()


@pytest.mark.parametrize("form", ["parquet", "classes"])
def test_what_macos_leaves_beside_every_file_is_passed_over(form, request):
    folder = request.getfixturevalue(form)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7 attributes")
    assert len(load("cifar10", folder).train_labels) == ROWS["train"]


def test_the_batches_may_lie_in_their_own_folder_inside_the_one_named(batches, content):
    assert same_images(load("cifar10", batches.parent), content)


def test_images_are_bytes_with_channels_last_in_memory(parquet):
    data = load("auto", parquet)
    assert data.train_images.shape == (50, 3, 32, 32)
    assert data.train_images.dtype == data.test_images.dtype == torch.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == torch.int64
    assert data.train_images.is_contiguous(memory_format=torch.channels_last)


def test_the_environment_names_the_folder_and_an_argument_goes_before_it(parquet, batches, monkeypatch):
    monkeypatch.setenv("CIFAR10_DIR", str(parquet))
    assert str(parquet) in load().source
    assert str(batches) in load(folder=batches).source


@pytest.mark.parametrize(("image", "label"), [("image", "labels"), ("picture", "label")])
def test_parquet_columns_may_have_their_other_names(tmp_path, content, image, label):
    for half_name in ROWS:
        write_parquet(
            tmp_path / "p" / f"{half_name}-0.parquet",
            getattr(content, f"{half_name}_images"),
            getattr(content, f"{half_name}_labels"),
            image=image,
            label=label,
        )
    assert same_images(load("cifar10", tmp_path / "p"), content)


@pytest.fixture(scope="session")
def real_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("real")


def test_the_redistributed_cifar10_is_read_and_then_mapped(real_cache, parquet, monkeypatch):
    rows, folder = ROWS, parquet
    if list(REAL.glob("train-*.parquet")):
        rows, folder = {"train": 50_000, "test": 10_000}, REAL
    for name, count in rows.items():
        monkeypatch.setitem(dataset.ROWS, name, count)
    first = load("cifar10", folder, cache=real_cache)
    monkeypatch.setattr(cifar10.parquet, "read", None)  # the second time there is nothing to decode
    second = load("cifar10", folder, cache=real_cache)
    assert first.fingerprint == second.fingerprint
    assert second.train_labels.bincount().tolist() == [rows["train"] // 10] * 10
    assert second.test_labels.bincount().tolist() == [rows["test"] // 10] * 10
    if folder == REAL and (REAL / "README.md").exists():  # the means that it states
        means = second.train_images.permute(0, 2, 3, 1).numpy().mean((0, 1, 2))
        assert means == pytest.approx([125.27, 122.93, 113.86], abs=0.01)


def test_an_image_that_stands_for_many_rows_fills_no_memory(tmp_path, content):
    large = png(content.train_images[0]) + bytes(1 << 19)  # decoders pass over what follows an image
    write_parquet(path := tmp_path / "many.parquet", [large] * 300, [0] * 300)
    assert path.stat().st_size < 1 << 21
    tracemalloc.start()
    try:
        assert sum(1 for _ in parquet._images(path)) == 300
        assert tracemalloc.get_traced_memory()[1] < 80 << 20  # 150 MiB if all rows are read at once
    finally:
        tracemalloc.stop()
