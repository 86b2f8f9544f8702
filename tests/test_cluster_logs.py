import pytest

from study.cluster.client import MissingJobError
from study.cluster.logs import Follower
from study.machine import ClusterError
from tests.cluster_helpers import CTRL_C, details, jobs, status_error

NOTE = "[the connection broke; trying again]\n"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr("study.cluster.logs.POLL_S", 0)


def followed(known, printed="", **how):
    """The ended job, and what was printed."""
    pieces: list[str] = []
    job = Follower(jobs(known, **how), "study-x-1", pieces.append, printed).follow()
    return job, "".join(pieces)


def test_a_log_is_printed_once_though_the_connection_breaks():
    log = "one\ntwo\nthree\nfour ±\n"
    script = ["one\ntw", ClusterError("reset"), ClusterError("closed"), "one\ntwo\nthr", "one\n"]
    job, printed = followed(details(status="FAILED", code=75), log=log, script=script)
    assert printed.replace(NOTE, "") == log
    assert printed.count(NOTE) == 1
    assert job.code == 75


def test_what_was_printed_before_is_not_printed_again():
    assert followed(details(status="STOPPED"), log="one\ntwo\nthree\n", printed="one\ntwo\n")[1] == "three\n"


def test_a_study_that_prints_for_long_is_not_lost_with_its_first_broken_connection(monkeypatch):
    monkeypatch.setattr("study.cluster.logs.LOST_S", 0.2)
    monkeypatch.setattr("study.cluster.logs.POLL_S", 0.1)
    script = [*("0\n1\n2\n3\n"[: 2 * count] for count in range(1, 5)), ClusterError("reset")]
    job, printed = followed(details(status="SUCCEEDED", code=0), log="0\n1\n2\n3\n", script=script)
    assert (job.code, printed) == (0, f"0\n1\n2\n3\n{NOTE}")


def test_a_ctrl_c_that_comes_together_with_a_line_is_not_lost():
    with pytest.raises(KeyboardInterrupt):
        followed(details(status="STOPPED"), script=["one\n", CTRL_C, "one\ntwo\n"])


def test_a_long_log_over_a_slow_line_is_asked_for_less_often(monkeypatch):
    times, slept = iter((0.0, 0.0, 2.0, 2.0)), []
    monkeypatch.setattr("study.cluster.logs.time.monotonic", lambda: next(times, 2.0))
    monkeypatch.setattr("study.cluster.logs.time.sleep", slept.append)
    followed(details(status="SUCCEEDED", code=0), log="one\n", script=["one\n"])
    assert slept == [20.0]


def test_a_job_that_the_cluster_does_not_have_ends_the_following():
    with pytest.raises(MissingJobError, match="404"):
        followed(status_error(404, "Job study-x-1 does not exist."))


def test_a_cluster_that_does_not_answer_for_minutes_ends_the_following(monkeypatch):
    monkeypatch.setattr("study.cluster.logs.LOST_S", 0)
    with pytest.raises(ClusterError, match=r"no answer for 0 minutes: .*refused"):
        followed(ClusterError("Connection refused"))
