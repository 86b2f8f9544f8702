import dataclasses
import errno
import json
import math
import os
import subprocess
import sys
import textwrap

import pytest

from study.folder import Folder, FolderError, free_name, study_folders, write_json, write_text
from study.study import Study
from tests.study_helpers import a_record, a_study

STUDY = a_study()


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path / "example")
    with folder.locked():
        folder.write_study(a_study(), {"commit": "abc"})
    return folder


def test_a_study_and_its_records_come_back_as_they_were_written(folder):
    records = [a_record(2, state="failed"), a_record(1, 0.1 + 0.2), a_record(10, state="running")]
    for record in records:
        folder.write_record(record)
    assert folder.read_study() == a_study()
    assert folder.read_records(STUDY) == [records[1], records[0], records[2]]
    assert json.loads(folder.definition.read_text())["runs"] == [{"commit": "abc"}]


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


def test_json_has_null_and_never_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", {"gain": math.nan})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"trial": 1}', '{"unknown": 1}', "\x00\x01", "off the grid"])
def test_a_damaged_record_is_refused_by_name_and_with_a_way_out(folder, damage):
    (folder.trials / "0003.json").write_text(damage)
    if damage == "off the grid":
        folder.write_record(a_record(3, epochs=3))
    with pytest.raises(FolderError, match=r"0003\.json is damaged .* move it away"):
        folder.read_records(STUDY)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("seed", 77, 0), ("precision", "bfloat16", "float32"), ("protocol", "notebook", "holdout"), ("patience", None, 2)],
)
def test_a_record_of_another_study_is_refused(folder, name, value, expected):
    folder.write_record(a_record(3))
    path = folder.trials / "0003.json"
    entries = json.loads(path.read_text())
    entries["config"][name] = value
    if value is None:
        del entries["config"][name]
    path.write_text(json.dumps(entries))
    with pytest.raises(
        FolderError, match=rf"0003\.json is damaged .{name} of its config is {value!r}; .* {expected!r}"
    ):
        folder.read_records(STUDY)


def test_a_record_of_other_data_is_refused(folder):
    record = a_record(3)
    folder.write_record(dataclasses.replace(record, result={**record.result, "data": "e" * 64}))
    with pytest.raises(FolderError, match=r"0003\.json is damaged .it is of other data than its study.; move it away"):
        folder.read_records(STUDY)


def test_every_run_that_added_to_a_study_is_remembered(folder):
    folder.write_study(a_study(trials=9), {"commit": "def"})
    assert json.loads(folder.definition.read_text())["runs"] == [{"commit": "abc"}, {"commit": "def"}]
    assert folder.read_study().trials == 9


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"space": 3}'])
def test_a_damaged_study_is_refused_by_name(folder, damage):
    folder.definition.write_text(damage)
    with pytest.raises(FolderError, match=r"study\.json is damaged"):
        folder.read_study()


@pytest.mark.parametrize(
    "change",
    [
        {"state": "banana"},
        {"trial": 7},
        {"result": None},
        {"result": {"gain": 0.1}},
        {"config": {}},
        {"config": {"epochs": 0}},
    ],
)
def test_a_record_that_was_edited_into_nonsense_is_refused_by_name(folder, change):
    folder.write_record(a_record(3))
    path = folder.trials / "0003.json"
    entries = json.loads(path.read_text())
    if change.get("config"):
        change = {"config": {**entries["config"], **change["config"]}}
    path.write_text(json.dumps({**entries, **change}))
    with pytest.raises(FolderError, match=r"0003\.json is damaged"):
        folder.read_records(STUDY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seconds_reused", None),
        ("epochs_trained", "5"),
        ("gain", math.nan),
        ("gain", 1e308),
        ("gain", 5),
        ("gain", True),
        ("discordance", "0.1"),
        ("discordance", math.nan),
        ("discordance", -1),
        ("mixture_accuracy", 1.01),
        ("artificial_accuracy", "high"),
        ("oracle_gate_accuracy", [1]),
        ("scored_examples", 0),
        ("scored_examples", -5),
        ("scored_examples", "2000"),
        ("scored_examples", 2000.5),
        ("seconds", 10**400),
        ("seconds", math.inf),
        ("threads", "two"),
        ("threads", 2.5),
        ("device", ["a"]),
        ("use_large_experts", 1),
    ],
)
def test_a_number_that_cannot_be_is_named_with_what_was_expected(folder, name, value):
    record = a_record(3)
    record.result[name] = value
    (folder.trials / "0003.json").write_text(json.dumps(dataclasses.asdict(record)))
    with pytest.raises(FolderError, match=rf"0003\.json is damaged \({name} is .*\); move it") as caught:
        folder.read_records(STUDY)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("entry", ["trial", "state", "replicate", "config", "started"])
def test_what_every_record_has_is_missed_in_words(folder, entry):
    entries = dataclasses.asdict(a_record(3))
    del entries[entry]
    (folder.trials / "0003.json").write_text(json.dumps(entries))
    with pytest.raises(FolderError, match=rf"damaged \({entry} is missing\)"):
        folder.read_records(STUDY)


def test_what_an_older_record_lacks_is_no_damage(folder):
    record = a_record(3)
    for name in ("threads", "device", "parameters", "oracle_gate_accuracy"):
        del record.result[name]
    folder.write_record(record)
    assert folder.read_records(STUDY) == [record]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"replicate": "x"}, "replicate is 'x'; expected a whole number from 0"),
        ({"trial": True}, "trial is True"),
        ({"trial": 3.0}, "trial is 3.0"),
        ({"error": 5, "state": "failed", "result": None}, "error is 5; expected text"),
        ({"started": "soon"}, "started is 'soon'; expected a time like 2026"),
        ({"ended": "0001-01-01T00:00:00+14:00"}, "ended is '0001.*; expected a time like"),
        ({"state": "running"}, "state is running and result is {"),
        ({"result": "x"}, "state is complete and result is 'x'"),
        ({"config": [1]}, r"config is \[1\]; expected fields"),
        ({"extra": 1}, "extra is not known"),
        ({"config": {"depth": 3}}, "its config has depth"),
    ],
)
def test_what_is_odd_about_a_record_is_said_in_words(folder, change, why):
    entries = dataclasses.asdict(a_record(3))
    if isinstance(change.get("config"), dict):
        change = {"config": {**entries["config"], **change["config"]}}
    (folder.trials / "0003.json").write_text(json.dumps({**entries, **change}))
    with pytest.raises(FolderError, match=rf"damaged \({why}"):
        folder.read_records(STUDY)


@pytest.mark.parametrize("name", ["3.json", "03.json", "0²3.json", "00a.json", "0004.json"])
def test_a_record_in_a_file_of_another_name_is_refused(folder, name):
    folder.write_record(a_record(3))
    (folder.trials / name).write_text(json.dumps(dataclasses.asdict(a_record(3))))
    with pytest.raises(FolderError, match=rf"{name} is damaged \(it is trial 3, whose file is 0003.json\)"):
        folder.read_records(STUDY)


@pytest.mark.parametrize(("damage", "why"), [("[" * 100_000, "nested too deeply"), (b"\xff\xfe", "no text")])
def test_a_file_that_is_not_json_is_damaged_wherever_it_is(folder, damage, why):
    for path in (folder.trials / "0003.json", folder.definition):
        path.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
        with pytest.raises(FolderError, match=rf"{path.name} is damaged \(it is {why}\)"):
            folder.read_study() if path == folder.definition else folder.read_records(STUDY)
        path.unlink()
        path.mkdir()
        with pytest.raises(FolderError, match="is a directory"):
            folder.read_study() if path == folder.definition else folder.read_records(STUDY)
        path.rmdir()


def test_a_file_in_the_place_of_the_trials_is_refused(folder):
    folder.trials.rmdir()
    folder.trials.write_text("")
    with pytest.raises(FolderError, match="trials is no folder"):
        folder.read_records(STUDY)


@pytest.mark.parametrize(
    ("entry", "value", "why"),
    [
        ("space", 3, "space is 3; expected name, grids and fixed"),
        ("space", {}, "space is {}; expected"),
        ("dataset", None, "dataset is missing"),
        ("data_folder", 5, "data_folder is 5; expected text"),
    ],
)
def test_what_is_odd_about_a_study_is_said_in_words(folder, entry, value, why):
    folder.definition.write_text(json.dumps({**json.loads(folder.definition.read_text()), entry: value}))
    with pytest.raises(FolderError, match=rf"damaged \({why}"):
        folder.read_study()
    entries = json.loads(folder.definition.read_text())
    del entries[entry]
    folder.definition.write_text(json.dumps(entries))
    with pytest.raises(FolderError, match=rf"damaged \({entry} is missing\)"):
        folder.read_study()


@pytest.mark.parametrize(
    "change",
    [{"objective": "loss"}, {"sampler": "zzz"}, {"protocol": "q"}, {"seed": "a"}, {"trials": -5}, {"data": None}],
)
def test_a_study_that_was_edited_into_nonsense_is_refused_by_name(folder, change):
    folder.definition.write_text(json.dumps({**json.loads(folder.definition.read_text()), **change}))
    with pytest.raises(FolderError, match=r"study\.json is damaged"):
        folder.read_study()


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


def test_names_are_the_next_free_ones_and_the_newest_study_is_last(tmp_path):
    assert free_name(tmp_path, "shapes-notebook") == "shapes-notebook-1"
    for number in (1, 2):
        with Folder(tmp_path / f"shapes-notebook-{number}").locked():
            Folder(tmp_path / f"shapes-notebook-{number}").write_study(a_study(), {})
    assert free_name(tmp_path, "shapes-notebook") == "shapes-notebook-3"
    assert free_name(tmp_path, "shapes-my spass") == "shapes-my-spass-1"  # a name that --name takes
    Folder(tmp_path / "shapes-notebook-1").write_study(a_study(), {"touched": True})
    assert [path.name for path in study_folders(tmp_path)] == ["shapes-notebook-2", "shapes-notebook-1"]
    assert isinstance(Folder(study_folders(tmp_path)[0]).read_study(), Study)
