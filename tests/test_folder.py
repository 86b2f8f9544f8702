import errno
import gc
import json
import math
import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from study.files import seal, write_json, write_text
from study.folder import Folder, FolderError, free_name, study_folders
from study.lock import InUseError
from study.study import Run, Study, now
from tests.study_helpers import a_folder, a_record, a_study

STUDY = a_study()


def a_run(commit="abc"):
    return Run(started=now(), command="python -m study.run", commit=commit, versions={"torch": "2.15.0"}, store="none")


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path / "example")
    with folder.locked():
        folder.write_study(a_study(), a_run("abc"))
    return folder


def test_a_study_and_its_records_come_back_as_they_were_written(folder):
    records = [a_record(2, state="failed"), a_record(1, 0.1 + 0.2), a_record(10, state="running")]
    for record in records:
        folder.write_record(record)
    assert folder.read_study() == a_study()
    assert folder.read_records(STUDY) == [records[1], records[0], records[2]]
    assert folder.read_runs() == (a_run("abc"),)


def test_a_record_is_replaced_whole_and_nothing_is_left_beside_it(folder):
    folder.write_record(a_record(1, state="running"))
    folder.write_record(a_record(1))
    assert folder.read_records(STUDY) == [a_record(1)]
    assert [path.name for path in folder.trials.iterdir()] == ["0001.json"]


def test_a_reader_of_the_old_file_is_not_disturbed_by_a_new_one(tmp_path):
    write_text(tmp_path / "file", "old")
    with (tmp_path / "file").open() as reader:
        write_text(tmp_path / "file", "new")
        assert reader.read() == "old"
    assert (tmp_path / "file").read_text() == "new"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_text(tmp_path / "file", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_path_in_no_encoding_can_be_written_down(tmp_path):
    write_text(tmp_path / "file", f"CIFAR-10 from {os.fsdecode(b'data-' + bytes([255]))}")
    assert (tmp_path / "file").read_text("utf-8") == r"CIFAR-10 from data-\udcff"


def test_json_with_a_path_in_no_encoding_can_be_read_again(tmp_path):
    written = {"data-\udcff": ["\udcff", "\U0001f600", r"\ud"]}
    write_json(tmp_path / "file.json", written)
    read = json.loads((tmp_path / "file.json").read_text("utf-8"))
    assert read == {r"data-\udcff": [r"\udcff", "\U0001f600", r"\ud"]}


def test_what_cannot_be_read_is_not_called_damaged(folder, monkeypatch):
    folder.write_record(a_record(3))
    for name, words in (("study.folder.read_regular", "0003.json"), ("os.listdir", "trials")):
        with monkeypatch.context() as patch:
            patch.setattr(name, refuse_access)
            with pytest.raises(FolderError, match=rf"{words} cannot be read: Permission denied"):
                folder.read_records(STUDY)


def refuse_access(path, *_):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def test_json_has_null_and_never_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", {"gain": math.nan})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema_version": 2}', "\x00\x01", "off the grid"])
def test_a_damaged_record_is_refused_by_name_and_with_a_way_out(folder, damage):
    if damage == "off the grid":
        folder.write_record(a_record(3, epochs=3))
    else:
        (folder.trials / "0003.json").write_text(damage)
    with pytest.raises(FolderError, match=r"0003\.json is damaged .* move it away"):
        folder.read_records(STUDY)


def test_every_run_that_added_to_a_study_is_remembered(folder):
    folder.write_study(a_study(trials=9), a_run("def"))
    assert [run.commit for run in folder.read_runs()] == ["abc", "def"]
    assert folder.read_study().trials == 9


def test_a_file_of_an_older_schema_is_refused_as_that(folder):
    for path in (folder.trials / "0003.json", folder.definition):
        path.write_text('{"trial": 3}')
        with pytest.raises(FolderError, match=f"{path.name} has no schema_version; expected 2"):
            folder.read_study() if path == folder.definition else folder.read_records(STUDY)
        path.unlink()


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"schema_version": 2, "space": 3}'])
def test_a_damaged_study_is_refused_by_name(folder, damage):
    folder.definition.write_text(damage)
    with pytest.raises(FolderError, match=r"study\.json is damaged"):
        folder.read_study()


@pytest.mark.parametrize("name", ["3.json", "03.json", "0²3.json", "00a.json", "0004.json"])
def test_a_record_in_a_file_of_another_name_is_refused(folder, name):
    folder.write_record(a_record(3))
    (folder.trials / name).write_text(seal(a_record(3).as_json()))
    with pytest.raises(FolderError, match=rf"{name} is damaged \(it is trial 3, whose file is 0003.json\)"):
        folder.read_records(STUDY)


@pytest.mark.parametrize("damage", [b"[" * 100_000, b"\xff\xfe"])
def test_a_file_that_is_not_json_is_damaged_wherever_it_is(folder, damage):
    for path in (folder.trials / "0003.json", folder.definition):
        path.write_bytes(damage)
        with pytest.raises(FolderError, match=rf"{path.name} is damaged \(it is no JSON"):
            folder.read_study() if path == folder.definition else folder.read_records(STUDY)
        path.unlink()
        path.mkdir()
        with pytest.raises(FolderError, match="it is a folder"):
            folder.read_study() if path == folder.definition else folder.read_records(STUDY)
        path.rmdir()


def test_a_file_in_the_place_of_the_trials_is_refused(folder):
    folder.trials.rmdir()
    folder.trials.write_text("")
    with pytest.raises(FolderError, match="trials is no folder"):
        folder.read_records(STUDY)


def test_a_folder_that_was_renamed_is_a_study_of_its_new_name(folder):
    renamed = folder.path.rename(folder.path.with_name("other"))
    assert Folder(renamed).read_study() == a_study(name="other")


def test_records_come_by_number_beyond_four_digits(folder):
    for number in (10_000, 9_999):
        folder.write_record(a_record(number))
    assert [record.trial for record in folder.read_records(STUDY)] == [9_999, 10_000]


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(FolderError, match="holds no study"):
        Folder(tmp_path).read_study()


def test_a_folder_has_one_driver_and_is_free_again_when_that_one_is_killed(folder):
    code = f"""
        from pathlib import Path
        from study.folder import Folder
        with Folder(Path({str(folder.path)!r})).locked():
            print("held", flush=True)
            input()
    """
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(FolderError, match="in use by another driver"), folder.locked():
            pass
        other.kill()
    with folder.locked():
        pass


@pytest.mark.parametrize("name", [".lock", "trials"])
def test_what_stands_in_the_place_of_another_kind_of_file_is_named_at_once(tmp_path, name):
    (tmp_path / name).mkdir() if name == ".lock" else (tmp_path / name).touch()
    began = time.monotonic()
    with pytest.raises(FolderError, match=rf"{name} is .*; expected .*: move it away"), Folder(tmp_path).locked():
        pass
    assert time.monotonic() - began < 1


def test_names_are_the_next_free_ones_and_the_newest_study_is_last(tmp_path):
    assert free_name(tmp_path, "shapes-notebook") == "shapes-notebook-1"
    for number in (1, 2):
        with Folder(tmp_path / f"shapes-notebook-{number}").locked():
            Folder(tmp_path / f"shapes-notebook-{number}").write_study(a_study(), a_run())
    assert free_name(tmp_path, "shapes-notebook") == "shapes-notebook-3"
    assert free_name(tmp_path, "shapes-my spass") == "shapes-my-spass-1"  # a name that --name takes
    Folder(tmp_path / "shapes-notebook-1").write_study(a_study(), a_run())
    assert [path.name for path in study_folders(tmp_path)] == ["shapes-notebook-2", "shapes-notebook-1"]
    assert isinstance(Folder(study_folders(tmp_path)[0]).read_study(), Study)


def test_without_flock_one_of_many_holds_a_folder_at_a_time(tmp_path, monkeypatch):
    sleep, holders, most = time.sleep, [], []
    monkeypatch.setattr("study.lock.fcntl", None)
    monkeypatch.setattr("study.lock.time.sleep", lambda _: sleep(0.001))
    monkeypatch.setattr("study.lock.STALE_S", 60.0)

    def hold_often(_):
        for _ in range(20):
            with suppress(InUseError), Folder(tmp_path).locked():
                holders.append(1)
                sleep(0.001)
                most.append(len(holders))
                holders.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(hold_often, range(4)))
    assert max(most) == 1


@pytest.mark.parametrize("enabled", [True, False])
def test_reading_records_leaves_the_garbage_collector_as_it_was(tmp_path, enabled):
    folder, study, _ = a_folder(tmp_path)
    (gc.enable if enabled else gc.disable)()
    try:
        folder.read_records(study)
        assert gc.isenabled() == enabled
        (folder.trials / "0001.json").write_text("{")
        with pytest.raises(FolderError):
            folder.read_records(study)
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
