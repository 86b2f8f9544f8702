import pytest

from study.options import parse
from study.search.resources import Node, Resources, allot


def options(*arguments):
    return parse(list(arguments))


@pytest.mark.parametrize(
    ("arguments", "cpus", "gpus", "cpus_per_trial", "gpus_per_trial", "concurrency"),
    [
        ((), 2, 0, 1, 0, 2),
        ((), 8, 0, 1, 0, 8),
        ((), 16, 0, 1, 0, 16),
        ((), 64, 0, 1, 0, 64),
        ((), 1, 0, 1, 0, 1),
        (("--concurrency", "2"), 2, 0, 1, 0, 2),
        (("--cpus-per-trial", "1"), 2, 0, 1, 0, 2),
        ((), 16, 4, 4, 1, 4),
        ((), 2, 8, 1, 1, 2),
        (("--gpus-per-trial", "0.5"), 16, 2, 4, 0.5, 4),
        (("--gpus-per-trial", "0.4"), 16, 2, 4, 0.4, 4),
        (("--gpus-per-trial", "2"), 16, 4, 4, 2, 2),
        (("--gpus-per-trial", "0"), 16, 4, 1, 0, 16),
        (("--concurrency", "1"), 16, 0, 4, 0, 1),
    ],
)
def test_a_trial_gets_its_share_of_the_machine(arguments, cpus, gpus, cpus_per_trial, gpus_per_trial, concurrency):
    found = allot(options(*arguments), [Node(cpus, gpus)])
    assert (found.cpus_per_trial, found.gpus_per_trial, found.concurrency) == (
        cpus_per_trial,
        gpus_per_trial,
        concurrency,
    )


@pytest.mark.parametrize(
    ("arguments", "nodes", "of", "cpus_per_trial", "concurrency"),
    [
        ((), 16, 1, 1, 16),
        ((), 16, 3, 1, 48),
        ((), 16, 8, 1, 128),
        ((), 6, 3, 1, 18),
        (("--cpus-per-trial", "2"), 6, 3, 2, 6),
        (("--concurrency", "1"), 4, 4, 4, 1),
    ],
)
def test_a_trial_gets_no_more_cpus_than_a_node_of_the_cluster_has(arguments, nodes, of, cpus_per_trial, concurrency):
    found = allot(options(*arguments), [Node(of)] * nodes)
    assert (found.cpus_per_trial, found.concurrency) == (cpus_per_trial, concurrency)


DIFFERENT = [Node(8, 2), Node(8, 1), Node(64)]


def test_trials_of_a_gpu_run_on_all_nodes_that_have_one():
    assert allot(options(), DIFFERENT) == Resources(cpus_per_trial=4, gpus_per_trial=1, concurrency=3)


def test_gpus_of_different_nodes_are_not_added_up():
    assert allot(options("--gpus-per-trial", "2"), DIFFERENT).concurrency == 1


def test_more_gpus_than_the_largest_node_has_are_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        allot(options("--gpus-per-trial", "3"), DIFFERENT)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    for part in ("--gpus-per-trial is 3", "at most 2", "largest node"):
        assert part in error


@pytest.mark.parametrize(
    ("arguments", "gigabytes", "cpus_per_trial", "concurrency"),
    [((), 64, 1, 8), ((), 6.5, 2, 4), ((), 1, 4, 1), (("--concurrency", "8"), 6.5, 1, 8)],
)
def test_no_more_trials_run_by_default_than_have_memory(arguments, gigabytes, cpus_per_trial, concurrency):
    found = allot(options(*arguments), [Node(8, 0, int(gigabytes * 2**30))])
    assert (found.cpus_per_trial, found.concurrency) == (cpus_per_trial, concurrency)
