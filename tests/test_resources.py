import pytest

from moe.config import Config
from study.machine import ClusterError
from study.options import parse
from study.rules import Rule
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


def test_a_config_gets_what_the_first_rule_that_fits_says_and_the_usual_of_what_it_leaves_out():
    large, whole, half = (
        Rule(when={"use_large_experts": (True,)}, cpus=2),
        *(Rule(when={"epochs": (30,)}, gpus=gpus) for gpus in (1, 0.5)),
    )
    found = allot(options("--gpus-per-trial", "0.25", "--cpus-per-trial", "1"), [Node(8, 2)], (large, whole, half))
    shares = {Config(): (1, 0.25), Config(use_large_experts=True): (2, 0.25), Config(epochs=30): (1, 1)}
    assert {each: (found.of(each).cpus_per_trial, found.of(each).gpus_per_trial) for each in shares} == shares
    assert found.concurrency == 8
    assert {found: "data"}  # which a worker keeps for all trials with these resources


def test_as_many_trials_run_at_once_as_there_is_room_for_with_the_least_share():
    quarter = (Rule(when={"epochs": (1,)}, gpus=0.25),)
    assert allot(options(), [Node(8, 1)], quarter) == Resources(
        cpus_per_trial=2, gpus_per_trial=1, concurrency=4, rules=quarter
    )


@pytest.mark.parametrize(("share", "words"), [({"cpus": 16}, "16 CPUs and 1 GPU"), ({"gpus": 4}, "CPUs and 4 GPUs")])
def test_a_rule_that_no_machine_can_follow_ends_the_study(share, words):
    with pytest.raises(ClusterError, match=f"no machine has the .*{words} of one trial.* resources in the space file"):
        allot(options(), DIFFERENT, (Rule(when={"epochs": (1,)}, **share),))


def test_a_rule_that_trains_some_trials_without_a_gpu_needs_mixed(capsys):
    rules = (Rule(when={"epochs": (1,)}, gpus=0),)
    assert allot(options("--mixed"), DIFFERENT, rules).of(Config()).gpus_per_trial == 0
    with pytest.raises(SystemExit):
        allot(options(), DIFFERENT, rules)
    assert "and 1 GPU for others, and a GPU gives other results in" in capsys.readouterr().err
