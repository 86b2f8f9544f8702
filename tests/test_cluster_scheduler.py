"""What a study asks a scheduler for."""

import pytest

from study.cluster.scheduler import node_size
from study.options import parse


@pytest.mark.parametrize(
    ("line", "nodes", "cpus", "gpus", "trials"),
    [
        ("", 1, 4, 0, 1),
        ("", 3, 4, 0, 1),
        ("--concurrency 5", 2, 12, 0, 3),
        ("--concurrency 8 --cpus-per-trial 2", 1, 16, 0, 8),
        ("--gpus-per-trial 1", 2, 4, 1, 1),
        ("--gpus-per-trial 2 --concurrency 4", 2, 8, 4, 2),
        ("--gpus-per-trial 0.25 --concurrency 6", 1, 24, 2, 6),
        ("--gpus-per-trial 0.4 --concurrency 3", 1, 12, 2, 3),
    ],
)
def test_a_node_has_what_its_trials_need(line, nodes, cpus, gpus, trials):
    size = node_size(parse(line.split()), nodes)
    assert (size.cpus, size.gpus) == (cpus, gpus)
    assert size.mebibytes == 2048 + trials * 1536
