"""One driver at a time, and what one that was taken over may still write."""

import time

import pytest

from study.files import seal
from study.folder import Folder, FolderError
from study.remote import Copy
from study.search.stopping import Stop
from study.study import RUNNING
from tests.remote.helpers import QUICK, Place, a_folder, content, copying, eventually, there
from tests.study_helpers import a_record, a_study


def test_one_driver_at_a_time(place, tmp_path):
    folder, said = a_folder(tmp_path, a_record(1)), []
    with copying(place, folder), pytest.raises(FolderError, match="x is in use by another driver"):
        Copy(place, Folder(tmp_path / "two" / "x"), said.append, Stop(), QUICK)
    assert ["another driver" in sentence for sentence in said] == [True]
    with copying(place, folder):  # it was released
        pass


def test_a_driver_that_was_taken_over_writes_no_more_and_is_told_to_stop(place, tmp_path):
    folder, stop = a_folder(tmp_path, a_record(1)), Stop()
    with copying(place, folder, stop) as copy:
        eventually(lambda: there(place) == content(folder))
        place.create("x/.driver/lease-0002.json", b"{}")  # as after a pause of more than a minute
        time.sleep(2 * QUICK.beat_s)
        folder.write_record(a_record(2))
        eventually(lambda: stop.broken)
        assert not copy.finish()
    assert "was taken over by another driver" in str(stop.broken)
    assert "trials/0002.json" not in there(place)


def test_a_record_that_another_driver_wrote_stays(place, tmp_path):
    folder, stop = a_folder(tmp_path, a_record(1)), Stop()
    with copying(place, folder, stop):
        eventually(lambda: there(place) == content(folder))
        theirs = seal(a_record(2, gain=0.3).as_json()).encode()
        place.create("x/trials/0002.json", theirs)
        folder.write_record(a_record(2))
        eventually(lambda: stop.broken)
    assert "0002.json was written by another driver" in str(stop.broken)
    assert there(place)["trials/0002.json"] == theirs


def test_a_driver_that_was_cut_off_replaces_no_record_of_the_one_that_took_over(place, tmp_path):
    one, stop = a_folder(tmp_path / "one", a_record(1), a_record(2, state=RUNNING)), Stop()
    with copying(place, one, stop) as copy:
        eventually(lambda: there(place) == content(one))
        place.failing = True
        time.sleep(10 * QUICK.ttl_s)  # no beat of it arrives
        other, two = Place(place.root), Folder(tmp_path / "two" / "x")
        with copying(other, two) as theirs:
            two.read_records(a_study())
            two.write_record(a_record(2, gain=0.3))
            assert theirs.finish()
        before = there(place)
        one.read_records(a_study())
        one.write_record(a_record(2, gain=0.1))
        place.failing = False
        eventually(lambda: stop.broken)
        assert not copy.finish()
    assert there(place) == before


def test_a_confirmation_there_is_not_replaced_by_another_one(place, tmp_path):
    folder, stop = a_folder(tmp_path, a_record(1)), Stop()
    (folder.path / "confirm").mkdir()
    (folder.path / "confirm" / "plan.json").write_text("ours")
    with copying(place, folder, stop) as copy:
        place.create("x/confirm/plan.json", b"theirs")
        assert not copy.finish()
    assert there(place)["confirm/plan.json"] == b"theirs"
    assert "plan.json was written by another driver" in str(stop.broken)
