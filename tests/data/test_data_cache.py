"""The cache of decoded data."""

import os
import resource
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from moe.data import cache, cifar10, dataset, load
from tests.data.helpers import (
    entries,
    flip,
    half,
    same_images,
    write_parquet,
)


def test_a_second_load_maps_what_the_first_decoded(parquet, tmp_path, monkeypatch):
    first = load("cifar10", parquet)
    assert len(entries(tmp_path)) == 1
    monkeypatch.setattr(cifar10.parquet, "read", None)
    second = load("cifar10", parquet)
    assert second.fingerprint == first.fingerprint
    mapped = Path("/proc/self/maps")
    assert not mapped.exists() or entries(tmp_path)[0] in mapped.read_text()


def test_the_cache_may_be_named_below_the_home_folder(parquet, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOE_CACHE", "~/x")
    assert same_images(load("cifar10", parquet), content)
    assert len([*(tmp_path / "home" / "x").iterdir()]) == 1
    assert not (tmp_path / "~").exists()


def test_other_files_have_another_entry(parquet, content, tmp_path):
    before = load("cifar10", parquet)
    write_parquet(parquet / "test-00000-of-00001.parquet", content.test_images[::-1], content.test_labels[::-1])
    assert load("cifar10", parquet).fingerprint != before.fingerprint
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize(
    "harm",
    [flip, lambda path: flip(path, 0), lambda path: flip(path, 10), lambda path: flip(path, 5000), half, Path.unlink],
)
def test_a_damaged_entry_is_decoded_again(parquet, content, tmp_path, harm):
    load("cifar10", parquet)
    (entry,) = (tmp_path / "cache").iterdir()
    harm(entry)
    assert cache.load(entry.parent, entry.stem) is None
    assert same_images(load("cifar10", parquet), content)
    assert cache.load(entry.parent, entry.stem).fingerprint == content.fingerprint
    assert entries(tmp_path) == [entry.name]


def test_an_entry_of_another_shape_is_damaged_though_its_bytes_are_the_same(content, tmp_path):
    flat = dataset.Arrays(
        content.train_images, content.train_labels, content.test_images.reshape(10, -1), content.test_labels
    )
    assert flat.fingerprint == content.fingerprint
    cache.save(tmp_path, "name", flat)
    assert cache.load(tmp_path, "name") is None


def test_what_is_mapped_stays_when_the_entry_is_written_again(content, tmp_path):
    first = cache.save(tmp_path, "name", content)
    other = dataset.Arrays(content.train_images + 1, content.train_labels, content.test_images, content.test_labels)
    assert cache.save(tmp_path, "name", other).fingerprint == other.fingerprint
    assert np.array_equal(first.train_images, content.train_images)


def test_writing_to_a_mapped_image_leaves_the_file_alone(content, tmp_path):
    cache.save(tmp_path, "name", content).train_images[:] = 0
    assert cache.load(tmp_path, "name").fingerprint == content.fingerprint


def test_a_cache_that_cannot_be_written_leaves_the_data_in_memory_with_a_warning(parquet, content, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="held in memory") as caught:
        data = load("cifar10", parquet)
    assert len(caught) == 1
    assert same_images(data, content)


@contextmanager
def full_disk():
    """No file may grow beyond 4 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_data_in_memory_and_nothing_behind(parquet, content, tmp_path):
    with full_disk(), pytest.warns(UserWarning, match="held in memory"):
        data = load("cifar10", parquet)
    assert same_images(data, content)
    assert entries(tmp_path) == []


def test_what_a_killed_writer_left_is_removed_a_day_later(content, tmp_path):
    for name, age_s in (("partial-old", cache.STALE_S + 60), ("partial-new", 60)):
        (tmp_path / name).write_bytes(b"half")
        then = time.time() - age_s
        os.utime(tmp_path / name, (then, then))
    cache.save(tmp_path, "name", content)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["name.safetensors", "partial-new"]
