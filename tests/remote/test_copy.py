"""What is copied and fetched, and what is neither."""

import os

import numpy as np
import pytest

from moe.arms import ARMS, NETWORKS
from moe.bits import pack
from study.confirm.plan import SeedRecord, packed_classes
from study.files import seal, write_text
from study.folder import Folder, FolderError
from study.search.stopping import Stop
from study.study import COMPLETE, RUNNING
from tests.remote.helpers import a_folder, content, copying, eventually, there
from tests.study_helpers import STARTED, a_record, a_study

#: of one image
PREDICTED = dict.fromkeys(sorted(NETWORKS), packed_classes(np.zeros(1, np.uint8)))
RIGHT, OTHER = (dict.fromkeys(ARMS, pack(np.array([bit]))) for bit in (True, False))


def test_records_are_copied_as_they_change_and_all_else_at_the_end(place, tmp_path):
    folder = a_folder(tmp_path, a_record(1, state=RUNNING))
    with copying(place, folder) as copy:
        eventually(lambda: there(place) == content(folder))
        folder.read_records(a_study())
        folder.write_record(a_record(1))
        (folder.path / "trials.csv").write_text("trial\n1\n")
        (folder.path / ".lock").write_text("x")
        (folder.path / "weights.safetensors").write_text("x")
        eventually(lambda: there(place).get("trials/0001.json") == (folder.trials / "0001.json").read_bytes())
        assert "trials.csv" not in there(place)
        assert copy.finish()
    assert sorted(there(place)) == ["study.json", "trials.csv", "trials/0001.json"]
    assert there(place) == content(folder)


def test_another_machine_goes_on_with_what_is_there(place, tmp_path):
    with copying(place, a_folder(tmp_path / "one", a_record(1), a_record(2, state=RUNNING))) as copy:
        copy.finish()
    before, folder = there(place), Folder(tmp_path / "two" / "x")
    with copying(place, folder):
        assert content(folder) == before
        folder.read_records(a_study())
        folder.write_record(a_record(2))
        eventually(lambda: b"complete" in there(place)["trials/0002.json"])
    assert there(place)["trials/0001.json"] == before["trials/0001.json"]


def test_what_ended_here_and_was_not_copied_any_more_is_kept_and_copied(place, tmp_path):
    folder = a_folder(tmp_path, a_record(1, state=RUNNING))
    with copying(place, folder) as copy:
        copy.finish()
    folder.read_records(a_study())
    folder.write_record(a_record(1))
    folder.write_record(a_record(2))
    with copying(place, folder):
        eventually(lambda: there(place) == content(folder))
    assert [record.state for record in folder.read_records(a_study())] == [COMPLETE, COMPLETE]


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"runs": (2,)}, "holds another study than"),
        ({"records": [a_record(1, gain=0.3)]}, "0001.json is another trial than behind"),
    ],
)
def test_another_study_or_trial_is_neither_fetched_nor_replaced(place, tmp_path, other, sentence):
    with copying(place, a_folder(tmp_path / "one", a_record(1))) as copy:
        copy.finish()
    before, folder = there(place), a_folder(tmp_path / "two", *other.pop("records", [a_record(1)]), **other)
    ours = content(folder)
    with pytest.raises(FolderError, match=sentence), copying(place, folder):
        pass
    assert (there(place), content(folder)) == (before, ours)


@pytest.mark.parametrize("damage", [b"{", b"", seal({"schema_version": 2, "trial": 1}).encode()])
def test_a_damaged_record_there_is_named_and_not_fetched(place, tmp_path, damage):
    with copying(place, a_folder(tmp_path / "one", a_record(1))) as copy:
        copy.finish()
    place.replace("x/trials/0001.json", damage)
    folder = Folder(tmp_path / "two" / "x")
    with pytest.raises(FolderError, match=r"there/x/trials/0001\.json is damaged"), copying(place, folder):
        pass
    assert not folder.path.exists()


def test_a_seed_of_a_confirmation_is_replaced_once_it_is_scored_and_never_again(place, tmp_path):
    one, two = a_folder(tmp_path / "one", a_record(1)), Folder(tmp_path / "two" / "x")
    for folder in (one, two):  # copied before it is scored
        put_seed(folder, predicted=PREDICTED) if folder is one else None
        with copying(place, folder) as copy:
            assert copy.finish()
    scored = put_seed(one, right=RIGHT)
    with copying(place, one) as copy:
        assert copy.finish()
    assert there(place)["confirm/choice-0500.json"].decode() == scored
    with copying(place, two):
        assert content(two) == content(one)
    put_seed(two, right=OTHER)
    with copying(place, two, stop := Stop()) as copy:
        assert not copy.finish()
    assert "was written by another driver" in str(stop.broken)
    assert there(place) == content(one)


def test_a_seed_that_another_confirmation_scored_replaces_none(place, tmp_path):
    one, two = (a_folder(tmp_path / name, a_record(1)) for name in ("one", "two"))
    put_seed(one, right=RIGHT)
    with copying(place, one) as copy:
        assert copy.finish()
    put_seed(two, seconds=2.0, predicted=PREDICTED)
    with copying(place, two, stop := Stop()) as copy:
        before = content(two)
        assert not copy.finish()
    assert "was written by another driver" in str(stop.broken)
    assert (content(two), there(place)) == (before, content(one))


def test_of_a_confirmation_that_was_planned_anew_here_nothing_is_fetched_or_replaced(place, tmp_path):
    one, two = (a_folder(tmp_path / name, a_record(1)) for name in ("one", "two"))
    put_seed(one, right=RIGHT)
    for folder in (one, two):
        folder.subfolder("confirm")
        (folder.path / "confirm" / "plan.json").write_text(f"plan {folder.path.parent.name}")
    with copying(place, one) as copy:
        assert copy.finish()
    with copying(place, two, stop := Stop()) as copy:
        assert not copy.finish()
    assert [path.name for path in (two.path / "confirm").iterdir()] == ["plan.json"]
    assert "if confirm was planned anew here, move that one away" in str(stop.broken)
    assert there(place) == content(one)


def test_a_file_whose_name_begins_as_a_confirmations_is_a_file_like_others(place, tmp_path):
    folder = a_folder(tmp_path / "one", a_record(1))
    for text in ("mine", "yours"):
        (folder.path / "confirmed-by.txt").write_text(text)
        with copying(place, folder) as copy:
            assert copy.finish()
        assert there(place)["confirmed-by.txt"] == text.encode()


def put_seed(folder, seconds=1.0, **found):
    """Write a seed of a confirmation; its text."""
    config = a_record(1).config
    common = {"role": "choice", "config": config, "started": STARTED, "ended": STARTED, "seconds": seconds}
    text = seal(SeedRecord(**common, state="complete", images=1, **found).as_json())
    folder.subfolder("confirm")
    write_text(folder.path / "confirm" / "choice-0500.json", text)
    return text


def test_files_of_something_else_are_no_study(place, tmp_path):
    place.replace("x/notes.txt", b"mine")
    with pytest.raises(FolderError, match=r"has files and no study\.json"), copying(place, Folder(tmp_path / "x")):
        pass
    assert there(place) == {"notes.txt": b"mine"}


def test_what_is_damaged_here_is_named_and_kept(place, tmp_path):
    folder = a_folder(tmp_path, a_record(1))
    with copying(place, a_folder(tmp_path / "other", a_record(1, state=RUNNING))) as copy:
        copy.finish()
    damaged = folder.trials / "0001.json"
    damaged.write_bytes(damaged.read_bytes()[:-2])
    before = content(folder)
    with pytest.raises(FolderError, match=r"0001\.json"), copying(place, folder):
        pass
    assert content(folder) == before


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_fetched_is_written_into_folders_alone(place, tmp_path, kind):
    folder = a_folder(tmp_path, a_record(1))
    with copying(place, folder) as copy:
        copy.finish()
    place.replace("x/confirm/plan.json", b"{}")
    (tmp_path / "outside").mkdir()
    at = folder.path / "confirm"
    at.symlink_to(tmp_path / "outside") if kind == "link" else at.write_text("")
    with pytest.raises(FolderError), copying(place, folder):
        pass
    assert os.listdir(tmp_path / "outside") == []
