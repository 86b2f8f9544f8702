"""What `auto` finds, the drawn shapes, and the download."""

import contextlib
import http.server
import multiprocessing
import socket
import tempfile
import threading
import time
import warnings
from contextlib import suppress

import pytest

from moe.data import DataError, cifar10, dataset, download, load, official
from tests.data.helpers import (
    ROWS,
    entries,
    same_images,
)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves a good archive and bad ones."""

    archive = b""

    def do_GET(self):
        whole, part = self.archive, self.archive[: len(self.archive) // 2]
        bodies = {
            "/good": whole,
            "/half": part,
            "/slow": part,
            "/header": whole,
            "/wrong": whole[:-1] + b"!",
            "/empty": b"",
        }
        bodies |= {"/html": b"\n<!DOCTYPE html><html>Please log in</html>", "/text": b"no such file"}
        body = bodies.get(self.path)
        if body is None:
            return self.send_error(404)
        if self.path == "/header":
            return self.trickle()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body if self.path in {"/html", "/text", "/empty"} else whole)))
        self.end_headers()
        self.wfile.write(body)
        return self.trickle() if self.path == "/slow" else None

    def trickle(self):
        """Send a byte now and then, until nobody listens."""
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"x")
                time.sleep(0.02)

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


@pytest.mark.parametrize("path", ["/slow", "/header"])
def test_a_download_that_trickles_is_given_up(server, archive, monkeypatch, tmp_path, path):
    monkeypatch.setattr(download, "LIMIT_S", 0.2)
    monkeypatch.setattr(official, "URL", f"{server}{path}")
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
