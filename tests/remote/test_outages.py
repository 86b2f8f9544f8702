"""A service that fails, is slow or breaks off, and files that cannot be read."""

import time

import pytest

from moe.console import Exit
from moe.store.files import PlaceError
from study import remote
from study.folder import Folder, FolderError
from study.search.stopping import Stop
from tests.remote.helpers import QUICK, a_folder, content, copying, eventually, there
from tests.study_helpers import a_record


def test_a_service_that_fails_for_a_while_costs_nothing_but_one_warning(place, tmp_path):
    folder, said, stop = a_folder(tmp_path, a_record(1)), [], Stop()
    with copying(place, folder, stop, said) as copy:
        eventually(lambda: there(place) == content(folder))
        place.failing = True
        folder.write_record(a_record(2))
        eventually(lambda: said)
        folder.write_record(a_record(3))
        time.sleep(0.3)
        place.failing = False
        eventually(lambda: there(place) == content(folder))
        assert copy.finish()
    assert len(said) == 1
    assert "it is down" in said[0]
    assert not stop.broken


def test_a_service_that_stays_away_makes_the_end_4_with_the_command_to_copy_the_rest(
    place, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(remote, "END_S", 0.3)
    folder, said = a_folder(tmp_path, a_record(1)), []
    with copying(place, folder, said=said) as copy:
        eventually(lambda: there(place) == content(folder))
        place.failing = True
        folder.write_record(a_record(2))
        assert copy.end(Exit.DONE, "python -m study.run --resume") == Exit.ENVIRONMENT
        assert copy.end(Exit.TOO_MANY_FAILED, "") == Exit.TOO_MANY_FAILED
        place.failing = False
    assert "lacks files of" in said[-1]
    assert "Copy the rest with: python -m study.run --resume" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_or_locks_nothing_is_refused_at_once(place, tmp_path):
    place.failing = True
    with pytest.raises(FolderError, match=r"x cannot be written .*it is down"), copying(place, Folder(tmp_path / "x")):
        pass
    place.failing, place.create = False, lambda path, content: place.replace(path, content) or True
    with pytest.raises(FolderError, match="creates no file exclusively"), copying(place, Folder(tmp_path / "x")):
        pass


def test_a_place_that_fails_once_is_tried_again(place, tmp_path):
    create, failures = place.create, ["once"]

    def fails_once(path, content):
        if failures:
            raise PlaceError(f"{place.name}: it fails {failures.pop()}")
        return create(path, content)

    place.create = fails_once
    with copying(place, a_folder(tmp_path, a_record(1))) as copy:
        assert copy.finish()
    assert not failures


def test_a_first_copy_that_breaks_off_can_be_continued(place, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "END_S", 0.3)
    folder = a_folder(tmp_path, a_record(1))
    (folder.path / "best.json").write_text("{}")
    replace, puts = place.replace, []

    def once(path, data):
        if ".driver" not in path:
            puts.append(path)
            place.failing = len(puts) > 1
        replace(path, data)

    place.replace = once
    with copying(place, folder) as copy:
        assert not copy.finish()
    place.replace, place.failing = replace, False
    time.sleep(2 * QUICK.ttl_s)
    with copying(place, folder) as copy:
        assert copy.finish()
    assert there(place) == content(folder)


def test_a_service_that_does_not_answer_holds_up_no_end(place, tmp_path, monkeypatch, capsys):
    for name in ("END_S", "LEAVE_S"):
        monkeypatch.setattr(remote, name, 0.3)
    folder, said = a_folder(tmp_path, a_record(1)), []
    with copying(place, folder, said=said) as copy:
        eventually(lambda: there(place) == content(folder))
        place.answers.clear()
        folder.write_record(a_record(2))
        began = time.monotonic()
        assert copy.end(Exit.DONE, "the command") == Exit.ENVIRONMENT
    assert time.monotonic() - began < 5
    assert "lacks files of" in said[-1]
    assert "Copy the rest with: the command" in capsys.readouterr().out
    place.answers.set()


def test_a_file_that_cannot_be_read_now_is_copied_later_and_keeps_no_other_from_it(place, tmp_path, monkeypatch):
    folder, said, broken = a_folder(tmp_path, a_record(1), a_record(2)), [], [True]

    def read(path, most):
        if broken and path.name == "0001.json":
            raise OSError(5, "Input/output error")
        return path.read_bytes()

    monkeypatch.setattr(remote, "read_regular", read)
    with copying(place, folder, said=said) as copy:
        eventually(lambda: "trials/0002.json" in there(place))
        assert "trials/0001.json" not in there(place)
        broken.clear()
        assert copy.finish()
    assert there(place) == content(folder)
    assert ["0001.json cannot be read (Input/output error)" in sentence for sentence in said] == [True]


def test_the_command_to_resume_stays_on_its_machine_and_nothing_is_said_of_a_study_that_did_not_begin(
    place, tmp_path, capsys
):
    folder = a_folder(tmp_path, a_record(1))
    (folder.path / "resume.txt").write_text("python -m study.run")
    with copying(place, folder) as copy:
        assert copy.end(Exit.INTERRUPTED, "") == Exit.INTERRUPTED
    assert "resume.txt" not in there(place)
    assert "A copy is at" in capsys.readouterr().out
    with copying(place, Folder(tmp_path / "y")) as copy:
        assert copy.end(Exit.ENVIRONMENT, "") == Exit.ENVIRONMENT
    assert capsys.readouterr().out == ""
