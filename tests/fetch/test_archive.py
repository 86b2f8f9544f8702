"""Archives of a folder that are damaged, too large, or lead outside."""

import errno
import io
import os
import zipfile

import pytest

from study.cluster import fetch
from study.machine import ClusterError
from tests.fetch.helpers import printed, unpack


def test_an_archive_that_would_fill_the_disk_writes_nothing(there, here, monkeypatch):
    packed = printed(fetch.pack(there.path))
    monkeypatch.setattr(fetch, "LARGEST_UNPACKED", 1000)
    with pytest.raises(ClusterError, match="too large"):
        unpack(packed, here.path.parent, "x")
    with pytest.raises(ClusterError, match="to send"):
        fetch.pack(there.path)
    assert not here.path.exists()


@pytest.mark.parametrize(
    "log", ["", "noise", f"{fetch._PREFIX}é", f"{fetch._PREFIX}AAAA", printed(b"")],
)  # fmt: skip
def test_what_is_damaged_on_the_way_writes_nothing(log, here):
    with pytest.raises(ClusterError):
        unpack(log, here.path.parent, "x")
    assert not here.path.exists()


def test_an_archive_that_was_cut_writes_nothing(there, here):
    archive = fetch.pack(there.path)
    for content in (archive[:-20], archive[:-8] + bytes(8)):
        with pytest.raises(ClusterError, match="damaged on the way"):
            fetch.receive_archive(content, here.path.parent, "x")
    assert not here.path.exists()


@pytest.mark.parametrize("damage", ["encrypted", "lzma", "bzip2"])
def test_an_archive_that_is_encrypted_or_not_what_it_says_writes_nothing(there, here, damage):
    archive = io.BytesIO()
    kind = zipfile.ZIP_BZIP2 if damage == "bzip2" else zipfile.ZIP_LZMA
    with zipfile.ZipFile(archive, "w", kind) as packed:
        packed.writestr("study.json", bytes(100))
    content = bytearray(archive.getvalue())
    if damage == "encrypted":
        content[6] |= 1
        content[content.index(b"PK\1\2") + 8] |= 1
    else:
        at = 30 + len("study.json") + 4 * (damage == "lzma")  # the properties, after the header
        content[at : at + 5] = b"\xff" * 5
    with pytest.raises(ClusterError, match="damaged on the way"):
        fetch.receive_archive(bytes(content), here.path.parent, "x")
    assert not here.path.exists()


def test_a_folder_that_is_too_large_for_a_log_is_refused(there, monkeypatch):
    monkeypatch.setattr(fetch, "LARGEST", 10)
    with pytest.raises(ClusterError, match="expected at most"):
        fetch.pack(there.path)


@pytest.mark.parametrize("name", ["../outside", "/tmp/../../outside", "trials/../../outside", ".lock", "../.x"])
def test_nothing_is_written_outside_the_folder_and_no_hidden_file(name, there, here):
    archive = io.BytesIO(fetch.pack(there.path))
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr(zipfile.ZipInfo(name), "no record")
    before = set(there.path.parent.parent.rglob("*"))
    fetch.receive_archive(archive.getvalue(), here.path.parent, "x")
    new = {path for path in there.path.parent.parent.rglob("*") if path not in before} - {here.path.parent, here.path}
    assert all(path.is_relative_to(here.path) for path in new)
    assert not [path.name for path in new if path.name.startswith(".")]


def test_a_full_disk_is_not_called_damage(there, here, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    with pytest.raises(ClusterError, match="No space left on device; TMPDIR"):
        fetch.receive_archive(fetch.pack(there.path), here.path.parent, "x")
