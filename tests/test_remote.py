"""Results behind a URL: what is copied there, what is fetched from there, and who may."""

import os
import threading
import time
from contextlib import contextmanager

import pytest

from moe.console import Exit
from moe.store.files import Local, PlaceError, Remote
from moe.store.locks import Timing
from study import copies, remote, run
from study.files import seal
from study.folder import Folder, FolderError
from study.remote import Copy
from study.search.stopping import Stop
from study.study import COMPLETE, RUNNING, Run
from tests.run_helpers import ONE_AT_A_TIME, SMALL, call, furnished, records, start, until
from tests.study_helpers import STARTED, a_record, a_study

QUICK = Timing(beat_s=0.1, ttl_s=0.6, rest_s=0.1)


def a_run(second):
    return Run(started=STARTED.replace(second=second), command="run", commit=None, versions={}, store="default")


def a_folder(path, *records, runs=(1,), **changes):
    folder = Folder(path / "x")
    folder.trials.mkdir(parents=True)
    folder.write_study(a_study(name="x", **changes), *map(a_run, runs))
    for record in records:
        folder.write_record(record)
    return folder


class Place(Local):
    """A folder in place of a service, which fails while `failing` is true, and does not answer before `answers`."""

    def __init__(self, root):
        super().__init__(root)
        self.failing, self.answers = False, threading.Event()
        self.answers.set()

    def _check(self):
        self.answers.wait()
        if self.failing:
            raise PlaceError(f"{self.name}: it is down")

    def read(self, path):
        self._check()
        return super().read(path)

    def files(self, folder):
        self._check()
        return super().files(folder)

    def create(self, path, content):
        self._check()
        return super().create(path, content)

    def replace(self, path, content):
        self._check()
        super().replace(path, content)


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name in ("LOOK_S", "REST_S"):
        monkeypatch.setattr(remote, name, 0.05)
    return Place(tmp_path / "there")


@contextmanager
def copying(place, folder, stop=None, said=None):
    said = [] if said is None else said
    copy = Copy(place, folder, said.append, stop or Stop(), QUICK)
    try:
        yield copy
    finally:
        copy.release()


def eventually(check):
    end = time.monotonic() + 20
    while not check():
        assert time.monotonic() < end
        time.sleep(0.02)


def there(place, name="x"):
    """What a study has behind the URL, but the lease of its driver."""
    root = place.root / name
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.*") if path.is_file() and
            ".driver" not in path.parts}  # fmt: skip


def content(folder):
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in copies.sendable(folder.path)}


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


def test_files_of_something_else_are_no_study(place, tmp_path):
    place.replace("x/notes.txt", b"mine")
    with pytest.raises(FolderError, match=r"has files and no study\.json"), copying(place, Folder(tmp_path / "x")):
        pass
    assert there(place) == {"notes.txt": b"mine"}


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


def test_a_confirmation_there_is_not_replaced_by_another_one(place, tmp_path):
    folder, stop = a_folder(tmp_path, a_record(1)), Stop()
    (folder.path / "confirm").mkdir()
    (folder.path / "confirm" / "plan.json").write_text("ours")
    with copying(place, folder, stop) as copy:
        place.create("x/confirm/plan.json", b"theirs")
        assert not copy.finish()
    assert there(place)["confirm/plan.json"] == b"theirs"
    assert "plan.json was written by another driver" in str(stop.broken)


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


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--name x", "--name is x; memory://refused has such a study already: add --resume"),
        ("--name z --resume", "--name is z; expected a study in memory://refused: x"),
        ("--name y --space nowhere.yaml", "--space"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_written(words, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = Remote("memory://refused")
    place.replace("x/study.json", b"{}")
    with pytest.raises(SystemExit) as refused:
        run.main(["--results", "memory://refused", *words.split()])
    assert refused.value.code == 2
    assert sentence in capsys.readouterr().err
    assert place.folders("") == ["x"]
    assert set(place.files("x")) == {"study.json"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "--results is s3://bucket/r, without --name; expected"),
        ("--name x --results s3://bucket//r", "--results is s3://bucket//r; expected a URL with a name after each /"),
        ("--name x --results s3://bucket/../r", "--results is s3://bucket/../r; expected"),
        ("--name x --results s3://", "--results is s3://; expected"),
        ("--name x --worker --trials all", "--worker is given with --results s3://bucket/r; expected"),
        ("--name x --results s3://me:secret@bucket", "--results is s3://..., with credentials"),
        ("--name x --results nowhere://bucket", "--results is nowhere://bucket; expected"),
    ],
)
def test_what_cannot_work_is_refused(words, sentence, capsys):
    with pytest.raises(SystemExit) as refused:
        run.main(["--results", "s3://bucket/r", *words.split()])
    assert refused.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_study_that_is_killed_goes_on_elsewhere_with_what_the_bucket_has(s3, tmp_path):
    one, two = (furnished(tmp_path / name) for name in ("one", "two") if not (tmp_path / name).mkdir())
    words = ("--name", "x", "--results", f"{s3}/studies", *ONE_AT_A_TIME)
    grid = (*SMALL, "--space", "four.yaml", "--sampler", "grid", "--trials", "3")
    with start(one, *grid, *words) as driver:
        until(driver, "trial 2 started")
        bucket = Remote(f"{s3}/studies")
        eventually(lambda: b'"complete"' in (bucket.read("x/trials/0001.json") or b""))
        driver.kill()
    code, printed = call(two, "--resume", "--trials", "4", *words)
    assert code == 0, printed
    assert "A copy is at" in printed
    first, *rest = records(two, "x")
    assert first == records(one, "x")[0]
    assert [record["state"] for record in rest] == ["complete"] * 3
    assert len({(record["config"]["epochs"], record["config"]["train_examples"]) for record in (first, *rest)}) == 4
    copied = {name: bucket.read(f"x/trials/{name}") for name in bucket.files("x/trials")}
    assert copied == {path.name: path.read_bytes() for path in (two / "results" / "x" / "trials").glob("*.json")}
    assert {"best.json", "trials.csv", "epochs.csv", "summary.md", "study.db"} <= set(bucket.files("x"))
