import json
import math
import subprocess
import sys
import textwrap

import pytest

from study.records import Folder, FolderError, Study, free_name, studies, write, write_text
from tests.study_helpers import SPACE, a_record, a_study


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
    assert folder.read_records(SPACE) == [records[1], records[0], records[2]]
    assert json.loads(folder.definition.read_text())["runs"] == [{"commit": "abc"}]


def test_a_record_is_replaced_whole_and_nothing_is_left_beside_it(folder):
    folder.write_record(a_record(1, state="running"))
    folder.write_record(a_record(1))
    assert folder.read_records(SPACE) == [a_record(1)]
    assert [path.name for path in folder.trials.iterdir()] == ["0001.json"]


def test_a_reader_of_the_old_file_is_not_disturbed_by_a_new_one(tmp_path):
    write_text(tmp_path / "file", "old")
    with (tmp_path / "file").open() as reader:
        write_text(tmp_path / "file", "new")
        assert reader.read() == "old"
    assert (tmp_path / "file").read_text() == "new"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "file", "new \udcff")
    assert (tmp_path / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_json_has_null_and_never_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path / "file.json", {"gain": math.nan})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"trial": 1}', '{"unknown": 1}', "\x00\x01", "off the grid"])
def test_a_damaged_record_is_refused_by_name_and_with_a_way_out(folder, damage):
    (folder.trials / "0003.json").write_text(damage)
    if damage == "off the grid":
        folder.write_record(a_record(3, epochs=3))
    with pytest.raises(FolderError, match=r"0003\.json is damaged .* move it away"):
        folder.read_records(SPACE)


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
        folder.read_records(SPACE)


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
    assert [record.trial for record in folder.read_records(SPACE)] == [9_999, 10_000]


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(FolderError, match="holds no study"):
        Folder(tmp_path).read_study()


def test_a_folder_has_one_driver_and_is_free_again_when_that_one_is_killed(folder):
    code = f"""
        from pathlib import Path
        from study.records import Folder
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
    assert [path.name for path in studies(tmp_path)] == ["shapes-notebook-2", "shapes-notebook-1"]
    assert isinstance(Folder(studies(tmp_path)[0]).read_study(), Study)
