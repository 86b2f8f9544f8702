"""What is wrong with a folder, in one sentence."""

import json
import os
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moe.config import CLASS_NAMES
from moe.data import DataError, cifar10, load, official
from moe.data import parquet as parquets
from tests.data.helpers import (
    entries,
    flip,
    half,
    md5,
    png,
    same_images,
    write_parquet,
)


def refuses(folder, *words, dataset="cifar10"):
    with pytest.raises(DataError) as caught:
        load(dataset, folder)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert str(word) in sentence
    assert entries(folder.parent) == []
    return sentence


@pytest.mark.parametrize("dataset", ["auto", "cifar10"])
def test_a_named_folder_that_does_not_exist_is_refused(tmp_path, dataset, monkeypatch):
    refuses(tmp_path / "missing", tmp_path / "missing", "is not a folder", dataset=dataset)
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path / "other"))
    with pytest.raises(DataError, match="other is not a folder"):
        load(dataset)


@pytest.mark.parametrize("dataset", ["auto", "cifar10"])
def test_a_named_folder_without_cifar10_is_refused(tmp_path, dataset):
    (tmp_path / "empty").mkdir()
    forms = "cifar-10-batches-py", "cifar-10-python.tar.gz", "train-*.parquet"
    refuses(tmp_path / "empty", tmp_path / "empty", *forms, dataset=dataset)


def test_cifar100_is_refused_by_name(tmp_path):
    (tmp_path / "data" / "cifar-100-python").mkdir(parents=True)
    refuses(tmp_path / "data", tmp_path / "data", "CIFAR-100 (cifar-100-python)")


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
def test_a_missing_official_file_is_named(batches, name):
    (batches / name).unlink()
    refuses(batches.parent, batches / name, "is missing")


@pytest.mark.parametrize("harm", [half, flip])
@pytest.mark.parametrize("name", ["data_batch_2", "test_batch"])
def test_a_damaged_official_file_is_named_with_its_hashes(batches, name, harm):
    expected = md5(batches / name)
    harm(batches / name)
    refuses(batches.parent, batches / name, md5(batches / name), expected)


def test_an_archive_with_a_flipped_bit_is_named_with_its_hashes(archive):
    expected = md5(archive)
    flip(archive, 100)
    refuses(archive.parent, archive, md5(archive), expected)


class Malice:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


def test_a_pickle_that_is_not_the_official_one_is_never_opened(batches, archive, tmp_path, monkeypatch):
    evil, marker = batches / "data_batch_5", tmp_path / "opened"
    evil.write_bytes(pickle.dumps(Malice(marker)))
    refuses(batches.parent, evil, "md5")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(batches, "cifar-10-batches-py")
    refuses(archive.parent, archive, "md5")
    monkeypatch.setitem(official.MD5, official.ARCHIVE, md5(archive))
    refuses(archive.parent, archive, "data_batch_5", "md5")
    assert not marker.exists()


def test_an_official_file_that_changes_after_it_was_found_is_never_opened(batches, tmp_path):
    found, marker = cifar10.find(batches), tmp_path / "opened"
    (batches / "test_batch").write_bytes(pickle.dumps(Malice(marker)))
    with pytest.raises(DataError, match=r"cifar-10-batches-py.test_batch is damaged or not the official file"):
        found.read()
    assert not marker.exists()


def test_an_archive_without_the_batches_is_refused(archive, monkeypatch):
    with tarfile.open(archive, "w:gz"):
        pass
    monkeypatch.setitem(official.MD5, official.ARCHIVE, md5(archive))
    refuses(archive.parent, archive, "has no data_batch_1")


@pytest.mark.parametrize("name", ["train-00001-of-00002.parquet", "test-00000-of-00001.parquet"])
def test_a_parquet_file_cut_short_is_named(parquet, name):
    half(parquet / name)
    refuses(parquet, parquet / name, "cannot be read as Parquet")


def test_parquet_files_of_one_half_only_are_refused(parquet):
    (parquet / "test-00000-of-00001.parquet").unlink()
    refuses(parquet, parquet, "no test-*.parquet")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda images, labels: (images, [*labels[:-1], 10]), ["the label 10", "expected 0 to 9"]),
        (lambda images, labels: (images, [*labels[:-1], -1]), ["the label -1", "expected 0 to 9"]),
        (lambda images, labels: (images, [*labels[:-1], None]), ["row 9", "no label"]),
        (lambda images, labels: (images[:-1], labels[:-1]), ["9 test images", "expected 10"]),
        (
            lambda images, labels: ([*images[:-1], np.zeros((32, 28, 3), np.uint8)], labels),
            ["row 9", "28 x 32"],
        ),
        (
            lambda images, labels: ([*images[:-1], png(images[0])[:500]], labels),
            ["row 9", "cannot be decoded"],
        ),
        (lambda images, labels: ([*images[:-1], b"no image"], labels), ["row 9", "cannot be decoded"]),
        (lambda images, labels: ([*images[:-1], None], labels), ["row 9", "has no image"]),
    ],
)
def test_a_parquet_file_that_is_not_cifar10_is_named_with_its_row(parquet, content, wrong, words):
    path = parquet / "test-00000-of-00001.parquet"
    write_parquet(path, *wrong(list(content.test_images), list(content.test_labels)))
    refuses(parquet, path, *words)


def test_a_parquet_file_with_other_columns_is_refused_with_those_it_has(parquet):
    path = parquet / "test-00000-of-00001.parquet"
    pq.write_table(pa.table({"pixels": pa.array([b"x"]), "label": pa.array(["cat"])}), path)
    refuses(parquet, path, "pixels (binary)", "label (string)", "expected an image struct")


def hugging_face(names):
    """The metadata that its library gives a Parquet file."""
    return {"huggingface": json.dumps({"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}})}


@pytest.mark.parametrize(
    "metadata", [hugging_face(CLASS_NAMES["cifar10"]), {"huggingface": "{"}, {"huggingface": "[]"}]
)
def test_the_classes_of_a_parquet_file_may_be_named_or_not(parquet, content, metadata):
    path = parquet / "test-00000-of-00001.parquet"
    write_parquet(path, content.test_images, content.test_labels, metadata=metadata)
    assert same_images(load("cifar10", parquet), content)


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (CLASS_NAMES["cifar10"][::-1], "'truck', 'ship'"),
        ([f"class {label}" for label in range(100)], "CIFAR-100"),
        ([str(label) for label in range(10)], "'0', '1'"),
    ],
)
def test_other_classes_or_another_order_are_refused_before_anything_is_decoded(
    parquet, content, names, word, monkeypatch
):
    monkeypatch.setattr(parquets, "decode", None)
    path = parquet / "test-00000-of-00001.parquet"
    write_parquet(path, content.test_images, content.test_labels, metadata=hugging_face(names))
    refuses(parquet, path, word, "expected airplane, automobile, bird")


def test_a_parquet_file_of_cifar100_is_refused_by_name(parquet, content):
    path = parquet / "train-00000-of-00002.parquet"
    write_parquet(path, content.train_images[:30], content.train_labels[:30], label="fine_label")
    refuses(parquet, path, "CIFAR-100", "expected CIFAR-10")
