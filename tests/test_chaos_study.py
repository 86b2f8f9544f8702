"""A study whose driver, worker and raylet are killed in turn comes to what an undisturbed one comes to."""

from tests.benchmarks.chaos_study import DRIVER, RAYLET, WORKER, chaos

SPACE = "epochs: [1, 2]\ntrain_examples: [50, 60]\ntest_examples: 50\n"


def test_kills_of_every_kind_lose_no_record_and_change_no_trial(tmp_path):
    words = ("--dataset", "shapes", "--protocol", "notebook", "--concurrency", "1")
    count = chaos(tmp_path, words, (WORKER, RAYLET, DRIVER), 0, SPACE, emit=print, waits_s=(0.3, 1.0))
    assert count.wrong == []
    assert count.kills.total() == 3
    assert count.studies >= 1
    assert count.kept > 0
