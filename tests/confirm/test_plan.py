"""What a confirmation plans, and what it refuses."""

import errno
import os
import re
import shutil
from contextlib import ExitStack

import numpy as np
import pytest

from study import lock
from study.analyze.tables import write_all
from study.confirm.__main__ import main
from study.confirm.outcome import conclude
from study.confirm.plan import openings
from study.files import seal
from study.folder import Folder, FolderError
from tests.confirm.helpers import finish, plan_of
from tests.faults.folder_rows import no_flock
from tests.study_helpers import LARGE, a_folder, a_record, a_study


def test_the_plan_names_the_choice_and_the_default_on_seeds_that_no_trial_had(tmp_path):
    _, study, records = a_folder(
        tmp_path, a_study(seed=3), [a_record(1, 0.01, seed=3000), a_record(2, 0.05, seed=3000, **LARGE)]
    )
    confirmation, plan = plan_of(tmp_path, "--seeds", "4")
    assert (confirmation.path.name, confirmation.planned) == ("confirm", False)
    assert [each.role for each in plan.configs] == ["choice", "default"]
    assert plan.configs[0].config == records[1].config.replace(seed=3500)
    assert plan.configs[1].config == records[0].config.replace(seed=3500)
    assert plan.seeds == (3500, 3501, 3502, 3503)
    assert [each.screened for each in plan.configs] == [0.05, 0.01]
    assert (plan.margin, plan.earlier, plan.data) == (0.01, (), study.data)


def test_a_choice_that_is_the_default_is_confirmed_once(tmp_path):
    a_folder(tmp_path, records=[a_record(1, gain=0.05)])
    assert [each.role for each in plan_of(tmp_path)[1].configs] == ["choice"]


def test_a_study_of_protocol_notebook_is_refused(tmp_path, capsys):
    study = a_study(protocol="notebook")
    a_folder(tmp_path, study, [a_record(1, protocol="notebook")])
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "example")])
    assert ended.value.code == 2
    assert "notebook" in capsys.readouterr().err


def test_trials_after_best_json_are_refused_by_what_it_says_not_by_its_time(tmp_path, capsys):
    folder, *_ = a_folder(tmp_path)
    text = (folder.path / "best.json").read_text()
    os.utime(folder.path / "best.json", (0, 0))
    assert plan_of(tmp_path)
    folder.write_record(a_record(3, gain=0.02, epochs=2))
    (folder.path / "best.json").write_text(text)  # newer than every record
    with pytest.raises(FolderError, match=r"best\.json"):
        plan_of(tmp_path)
    assert main([str(folder.path)]) == 4
    assert "--resume --name example" in capsys.readouterr().err


def test_a_running_study_is_refused(tmp_path, capsys):
    folder, *_ = a_folder(tmp_path)
    with folder.locked():
        assert main([str(folder.path)]) == 4
    assert "in use" in capsys.readouterr().err


def test_a_record_that_was_edited_is_refused(tmp_path):
    a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    finish(confirmation, plan)
    path = confirmation.path / "choice-0500.json"
    path.write_text(path.read_text().replace('"networks": 3', '"networks": 4'))
    with pytest.raises(FolderError, match="checksum"):
        confirmation.read_records(plan)


def a_finished(path):
    """A finished confirmation, its plan and the first record."""
    a_folder(path)
    confirmation, plan = plan_of(path, "--seeds", "3")
    confirmation.write_plan(plan)
    finish(confirmation, plan)
    return confirmation, plan, confirmation.read_records(plan)["choice-0500"]


@pytest.mark.parametrize("way", ["taken over", "moved"])
def test_a_driver_that_lost_the_folder_writes_no_seed_into_it(tmp_path, monkeypatch, way):
    confirmation, plan, record = a_finished(tmp_path)
    folder, path = confirmation.folder, confirmation.path / "choice-0500.json"
    path.unlink()
    with ExitStack() as stack:
        stack.enter_context(no_flock(errno.ENOSYS))
        monkeypatch.setattr(lock, "STALE_S", 0.5)
        monkeypatch.setattr(lock, "BEAT_S", 60.0)
        stack.enter_context(folder.locked())
        if way == "moved":
            folder.path.rename(tmp_path / "elsewhere")
            shutil.copytree(tmp_path / "elsewhere", folder.path)
        else:
            stack.enter_context(Folder(folder.path).locked())
        for write in (lambda: confirmation.write_record(record), lambda: confirmation.write_plan(plan)):
            with pytest.raises(FolderError, match="took it over" if way == "taken over" else "was moved"):
                write()
        assert not path.exists()


def test_a_seed_is_replaced_by_the_same_one_scored_alone_and_a_plan_never(tmp_path):
    confirmation, plan, record = a_finished(tmp_path)
    before = confirmation.read_records(plan)
    for other in (record.replace(seconds=9.0), record.replace(right=before["choice-0501"].right)):
        with pytest.raises(FolderError, match="stays as it is"):
            confirmation.write_record(other)
    with pytest.raises(FolderError, match="stays as it is"):
        confirmation.write_plan(plan.replace(margin=0.5))
    assert (confirmation.read_plan(), confirmation.read_records(plan)) == (plan, before)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda right: {"right": {**right, "mixture": right["mixture"][:8]}}, "right.mixture has 6 bytes; expected 25"),
        (lambda right: {"right": {**right, "mixture": "!"}}, "expected packed bytes in base64"),
        (lambda right: {"right": {name: right[name] for name in right if name != "average"}}, "right has "),
        (lambda right: {"right": None}, "exactly one of predicted and right"),
        (lambda right: {"predicted": right}, "exactly one of predicted and right"),
        (lambda right: {"right": None, "predicted": right}, "predicted has "),
        (lambda right: {"state": "failed"}, "neither predicted nor right"),
        (lambda right: {"images": None}, "images is null"),
        (lambda right: {"images": 300}, "has 25 bytes; expected 38"),
    ],
)
def test_a_sealed_record_that_lacks_bits_or_predictions_is_refused(tmp_path, change, part):
    confirmation, plan, record = a_finished(tmp_path)
    values = {**record.as_json(), **change(record.right)}
    (confirmation.path / "choice-0500.json").write_text(seal(values))
    with pytest.raises(FolderError, match=re.escape(part)):
        confirmation.read_records(plan)


def test_what_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    confirmation, *_ = a_finished(tmp_path)

    def refuse_access(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("study.confirm.plan.read_regular", refuse_access)
    with pytest.raises(FolderError, match=r"plan\.json cannot be read: Permission denied"):
        confirmation.read_plan()


def test_seeds_of_other_images_than_the_labels_are_refused(tmp_path):
    confirmation, plan, record = a_finished(tmp_path)
    (confirmation.path / "choice-0500.json").write_text(seal(record.replace(images=199).as_json()))
    with pytest.raises(FolderError, match=r"choice-0500.json is of 199 images; expected 200"):
        conclude(plan, confirmation.read_records(plan), np.arange(200) % 10)


def test_a_study_without_complete_trials_is_refused(tmp_path):
    folder, *_ = a_folder(tmp_path, records=[a_record(1, state="failed")])
    assert main([str(folder.path)]) == 4


@pytest.mark.parametrize("words", [("--seeds", "5"), ("--margin", "2")])
def test_a_plan_never_changes(tmp_path, words):
    a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    assert plan_of(tmp_path) == (confirmation, plan)
    assert plan_of(tmp_path, "--seeds", "10", "--margin", "1", "--again") == (confirmation, plan)
    with pytest.raises(SystemExit) as ended:
        plan_of(tmp_path, *words)
    assert ended.value.code == 2


def test_a_plan_for_another_choice_is_not_resumed(tmp_path):
    folder, study, records = a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    records.append(a_record(3, gain=0.2, epochs=2))
    folder.write_record(records[-1])
    write_all(folder, study, records)
    with pytest.raises(FolderError, match="was planned"):
        plan_of(tmp_path)


def test_another_confirmation_has_other_seeds_and_names_the_earlier_ones_of_all_studies_with_these_data(tmp_path):
    a_folder(tmp_path)
    first, plan = plan_of(tmp_path, "--seeds", "3")
    first.write_plan(plan)
    finish(first, plan)
    for name, data in (("twin", "d" * 64), ("stranger", "e" * 64)):
        shutil.copytree(tmp_path / "example", tmp_path / name)
        changed = seal(plan.replace(study=name, data=data).as_json())
        (tmp_path / name / "confirm" / "plan.json").write_text(changed)
    second, other = plan_of(tmp_path, "--again", "--seeds", "3")
    assert second.path.name == "confirm-2"
    assert other.seeds == (503, 504, 505)
    assert [words.split(" on ")[0] for words in other.earlier] == ["example", "twin"]
    assert openings(tmp_path, "e" * 64)[0].startswith("stranger on 20")
    (tmp_path / "stranger" / "confirm" / "result.json").unlink()  # its seeds are scored
    assert openings(tmp_path, "e" * 64)[0].startswith("stranger on 20")
    (tmp_path / "twin" / "confirm" / "plan.json").write_text("{")
    assert openings(tmp_path, "d" * 64)[-1] == "twin, whose confirmation cannot be read"


def test_a_confirmation_that_was_moved_away_leaves_no_number_and_no_seed_to_another(tmp_path):
    folder, *_ = a_folder(tmp_path)
    for name in ("confirm", "confirm-2"):
        confirmation, plan = plan_of(tmp_path, "--again", "--seeds", "3")
        assert confirmation.path.name == name
        confirmation.write_plan(plan)
        finish(confirmation, plan)
    (folder.path / "confirm").rename(folder.path / "confirm-old")
    third, plan = plan_of(tmp_path, "--again", "--seeds", "3")
    assert (third.path.name, plan.seeds) == ("confirm-3", (506, 507, 508))
    assert len(plan.earlier) == 2
    shutil.rmtree(folder.path / "confirm-old")
    assert plan_of(tmp_path, "--again", "--seeds", "3")[0] == third
    assert plan_of(tmp_path, "--again", "--seeds", "3")[1].seeds == plan.seeds
    assert plan_of(tmp_path)[0].path.name == "confirm-2"
