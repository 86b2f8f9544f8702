"""Trials as runs of other people's dashboards."""

import importlib
from pathlib import Path

import pytest
import sqlalchemy

from moe.result import Epoch
from study.folder import FolderError
from study.machine import ClusterError
from study.options import LOG_PACKAGES
from study.search.loggers import LOGGERS, Logger, Loggers, TensorBoard, address_of, opened
from study.search.trial import EpochReport
from tests.analyze_helpers import EPOCH, trained
from tests.study_helpers import a_record, a_study

DONE = trained(a_record(7, 0.03, epochs=2), 2)
RUNNING = a_record(7, state="running", epochs=2)
REPORT = EpochReport(**dict(EPOCH), stage="gate", epoch=1, epochs=2, reused=True)


class Recorder(Logger):
    """A service that remembers."""

    def __init__(self):
        super().__init__(a_study(), Path())
        self.calls = []

    def open(self, name, parameters):
        self.calls.append(("open", name, parameters["epochs"]))
        return name

    def log(self, run, points):
        self.calls.append(("log", run, [(point.name, point.epoch) for point in points]))

    def end(self, run, parameters, scores, error):
        self.calls.append(("end", run, scores, error))


def test_there_is_a_logger_for_every_name_of_the_option():
    assert LOGGERS.keys() == LOG_PACKAGES.keys()


def test_a_trial_is_a_run_with_each_epoch_of_each_stage_once():
    logger = Recorder()
    logger.started(RUNNING)
    logger.progressed(7, REPORT)
    logger.ended(DONE)
    opening, live, rest, end = logger.calls
    assert opening == ("open", "trial-0007", 2)
    assert live[2] == [(f"gate/{name}", 1) for name in (*Epoch.model_fields, "reused")]
    assert ("gate/loss", 1) not in rest[2]
    assert ("gate/loss", 2) in rest[2]
    assert len(rest[2]) == (5 * 2 - 1) * 6
    assert end[2]["gain"] == 0.03
    assert end[2]["seconds_reused"] == 30.0
    assert end[3] is None


def test_failed_and_interrupted_trials_end_their_runs():
    logger = Recorder()
    logger.started(a_record(1, state="running"))
    logger.ended(a_record(1, state="failed"))
    logger.started(RUNNING)
    logger.close()
    assert [call[3] for call in logger.calls if call[0] == "end"] == ["out of luck", "interrupted"]


def test_what_a_logger_raises_is_one_warning_and_ends_its_logging_alone():
    class Broken(Recorder):
        def log(self, run, points):
            raise ConnectionError("no\nserver")

    broken, fine, warnings = Broken(), Recorder(), []
    loggers = Loggers({"wandb": broken, "mlflow": fine}, warnings.append)
    for _ in range(2):
        loggers.started(RUNNING)
        loggers.progressed(7, REPORT)
        loggers.ended(DONE)
    assert warnings == ["--log wandb ends: ConnectionError: no server"]
    assert [call[0] for call in broken.calls] == ["open", "end"]
    assert len(fine.calls) == 8


def test_a_logger_that_fails_ends_all_its_runs_even_if_one_cannot_be_ended():
    class Broken(Recorder):
        def end(self, run, *outcome):
            super().end(run, *outcome)
            raise ConnectionError("no server")

    broken, warnings = Broken(), []
    loggers = Loggers({"mlflow": broken}, warnings.append)
    for number in (1, 2, 3):
        loggers.started(a_record(number, state="running"))
    loggers.ended(a_record(2))
    loggers.close()
    ends = {call[1]: call[3] for call in broken.calls if call[0] == "end"}
    assert ends == {"trial-0002": None, "trial-0001": "interrupted", "trial-0003": "interrupted"}
    assert len(warnings) == 1


def test_a_logger_that_cannot_begin_ends_the_study_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(LOGGERS, "mlflow", lambda *_: 1 / 0)
    with pytest.raises(ClusterError, match="--log mlflow cannot be used: ZeroDivisionError"):
        opened(["mlflow"], a_study(), tmp_path, print)


def events(folder):
    """What TensorBoard's own format holds: (tag, step, value) of scalars, and all tags."""
    event = importlib.import_module("tensorboardX.proto.event_pb2").Event
    found, tags = [], set()
    for path in sorted(folder.iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            parsed = event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            for value in parsed.summary.value:
                tags.add(value.tag)
                if value.HasField("simple_value"):
                    found.append((value.tag, parsed.step, value.simple_value))
    return found, tags


def test_tensorboard_has_curves_by_stage_and_epoch_scores_and_parameters(tmp_path):
    logger = TensorBoard(a_study(), tmp_path)
    (tmp_path / "tensorboard" / "trial-0007").mkdir(parents=True)
    (tmp_path / "tensorboard" / "trial-0007" / "stale").write_text("of a run that a resume begins again")
    logger.started(RUNNING)
    logger.progressed(7, REPORT)
    logger.ended(DONE)
    found, tags = events(tmp_path / "tensorboard" / "trial-0007")
    curve = [(step, value) for tag, step, value in found if tag == "mixture/validation_accuracy"]
    assert curve == [(1, pytest.approx(0.4123)), (2, pytest.approx(0.4123))]
    assert [value for tag, step, value in found if tag == "gate/reused"] == [1.0, 1.0]
    assert [value for tag, step, value in found if tag == "score/gain"] == [pytest.approx(0.03)]
    assert "_hparams_/session_start_info" in tags


def test_tensorboard_deletes_nothing_behind_a_link(tmp_path):
    (tmp_path / "elsewhere" / "trial-0007").mkdir(parents=True)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "tensorboard").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FolderError, match="is a link"):
        TensorBoard(a_study(), tmp_path / "study").started(RUNNING)
    assert (tmp_path / "elsewhere" / "trial-0007").exists()


def test_the_database_of_mlflow_is_in_the_studys_folder_whatever_its_name_has(tmp_path):
    path = tmp_path / "50 % of a?b=c&d#e %20 +é" / "mlflow.db"
    path.parent.mkdir()
    engine = sqlalchemy.create_engine(address_of(path))
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE x (y)"))
    engine.dispose()
    assert [*tmp_path.rglob("*.db"), *tmp_path.iterdir()] == [path, path.parent]


@pytest.mark.skipif(not importlib.util.find_spec("mlflow"), reason="needs the extra mlflow")
def test_mlflow_has_curves_by_stage_and_epoch_scores_and_parameters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder := tmp_path / "a?b#c %20").mkdir()
    logger = LOGGERS["mlflow"](a_study(), folder)
    logger.started(RUNNING)
    logger.progressed(7, REPORT)
    logger.ended(DONE)
    client = logger._client
    (run,) = client.search_runs([client.get_experiment_by_name("example").experiment_id])
    assert run.info.run_name == "trial-0007"
    assert run.info.status == "FINISHED"
    assert run.data.params["epochs"] == "2"
    assert run.data.metrics["gain"] == 0.03
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "mixture/loss")] == [1, 2]
    assert [path.name for path in tmp_path.rglob("*")] == ["a?b#c %20", "mlflow.db"]
