import hashlib
import http.server
import io
import json
import multiprocessing
import os
import pickle
import resource
import socket
import tarfile
import tempfile
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from moe.config import CLASS_NAMES
from moe.data import DataError, cache, cifar10, dataset, download, load, official
from moe.data import parquet as parquets

ROWS = {"train": 50, "test": 10}
REAL = Path(os.environ.get("CIFAR10_DIR") or Path(__file__).parents[2] / "shared" / "cifar10")
NAMES = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]


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


# what a folder may hold


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


# what is wrong with a folder, in one sentence


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


# the cache


def test_a_second_load_maps_what_the_first_decoded(parquet, tmp_path, monkeypatch):
    first = load("cifar10", parquet)
    assert len(entries(tmp_path)) == 1
    monkeypatch.setattr(cifar10.parquet, "read", None)
    second = load("cifar10", parquet)
    assert second.fingerprint == first.fingerprint
    mapped = Path("/proc/self/maps")
    assert not mapped.exists() or entries(tmp_path)[0] in mapped.read_text()


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


# auto, shapes, and the network


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves a good archive and bad ones."""

    archive = b""

    def do_GET(self):
        whole, part = self.archive, self.archive[: len(self.archive) // 2]
        bodies = {"/good": whole, "/half": part, "/slow": part, "/wrong": whole[:-1] + b"!", "/empty": b""}
        bodies |= {"/html": b"\n<!DOCTYPE html><html>Please log in</html>", "/text": b"no such file"}
        body = bodies.get(self.path)
        if body is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body if self.path in {"/html", "/text", "/empty"} else whole)))
        self.end_headers()
        self.wfile.write(body)
        while self.path == "/slow":  # a byte now and then
            time.sleep(0.02)
            try:
                self.wfile.write(b"x")
            except OSError:
                return None
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(archive, monkeypatch):
    """Where the archive can be downloaded."""
    monkeypatch.setattr(Handler, "archive", archive.read_bytes())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_download_is_kept_and_found_again_without_network(server, monkeypatch, content, tmp_path, capsys):
    monkeypatch.setattr(official, "URL", f"{server}/good")
    assert same_images(load(), content)
    monkeypatch.setattr(official, "URL", "http://127.0.0.1:9/")
    data = load("cifar10")
    assert same_images(data, content)
    assert "cache" in data.source
    assert len(entries(tmp_path)) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("html", "web page"),
        ("text", "expected a gzip archive"),
        ("empty", "broke off"),
        ("half", "broke off"),
        ("wrong", "md5"),
        ("missing", "404"),
    ],
)
def test_a_bad_download_is_refused_and_leaves_nothing(server, monkeypatch, tmp_path, path, word):
    monkeypatch.setattr(official, "URL", f"{server}/{path}")
    with pytest.raises(DataError, match=word) as caught:
        load("cifar10")
    assert f"{server}/{path}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert entries(tmp_path) == []
    answer = getattr(caught.value.__cause__, "fp", None)
    assert answer is None or answer.closed  # a connection left open warns whenever it is collected


def test_a_download_that_trickles_is_given_up(server, archive, monkeypatch, tmp_path):
    monkeypatch.setattr(download, "LIMIT_S", 0.2)
    monkeypatch.setattr(official, "URL", f"{server}/slow")
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"longer than 0\.2 s"):
        load("cifar10")
    assert time.perf_counter() - start < 2.5
    assert entries(tmp_path) == []


def test_a_download_whose_cache_cannot_be_written_is_held_in_memory(server, monkeypatch, tmp_path, content):
    monkeypatch.setattr(official, "URL", f"{server}/good")
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="held in memory"):
        assert same_images(load("cifar10"), content)


def test_a_download_leaves_no_temporary_file(server, monkeypatch, tmp_path):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for path in ("good", "half"):
        monkeypatch.setattr(official, "URL", f"{server}/{path}")
        monkeypatch.setenv("MOE_CACHE", str(tmp_path / path))
        with suppress(DataError):
            load("cifar10")
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("url", ["no address", "http://127.0.0.1:x/", "ftp://127.0.0.1:9/"])
def test_an_address_that_is_none_is_one_sentence(monkeypatch, url):
    monkeypatch.setattr(official, "URL", url)
    with pytest.raises(DataError, match="could not be downloaded"):
        load("cifar10")


def test_a_server_that_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(official, "URL", f"http://127.0.0.1:{silent.getsockname()[1]}/x")
        start = time.perf_counter()
        with pytest.raises(DataError, match="timed out"):
            load("cifar10")
        assert time.perf_counter() - start < 2.5


def test_auto_without_network_is_shapes_with_the_reason_and_says_once_that_it_draws(capfd):
    data = load()
    assert data.name == "shapes"
    assert "CIFAR-10 could not be had (http://127.0.0.1:9/" in data.source
    assert "refused" in data.source
    assert capfd.readouterr() == ("", "preparing shapes, once: up to half a minute\n")
    load()
    assert capfd.readouterr() == ("", "")


def test_nothing_is_downloaded_where_that_is_not_wanted(server, monkeypatch):
    monkeypatch.setattr(official, "URL", f"{server}/good")
    assert load(download=False).name == "shapes"
    with pytest.raises(DataError, match="not to be downloaded"):
        load("cifar10", download=False)


def test_shapes_never_looks_for_cifar10(monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path / "missing"))
    monkeypatch.setattr(cifar10, "find", None)
    monkeypatch.setattr(cifar10, "online", None)
    data = load("shapes")
    assert (data.name, data.source) == ("shapes", "shapes, drawn by code")
    assert entries(tmp_path) == ["shapes-1.safetensors"]
    assert load("shapes").fingerprint == data.fingerprint


def test_an_unknown_data_set_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="'mnist'; expected one of auto, cifar10, shapes"):
        load("mnist")


def load_beside_another(tables, folder, cache, barrier, answers):
    warnings.simplefilter("error")
    dataset.ROWS.update(ROWS)
    official.URL = tables.pop("url")
    official.MD5.update(tables)
    for source in (None, folder):
        barrier.wait(60)
        answers.put(load("cifar10", source, cache=cache).fingerprint)


def test_two_processes_that_download_and_decode_at_once_both_end_well(server, parquet, content, tmp_path):
    tables = dict(official.MD5)
    tables["url"] = f"{server}/good"
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    arguments = (tables, parquet, tmp_path / "cache", barrier, answers)
    processes = [context.Process(target=load_beside_another, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    assert [answers.get(timeout=60) for _ in range(4)] == [content.fingerprint] * 4
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(entries(tmp_path)) == 2  # one of the download, one of the Parquet files
