"""What is trained once, and how many trials read it."""

import re

import pandas as pd

from moe.config import NOT_SEEN, SIZE_FLAGS
from moe.stages import PIPELINE, STAGES, plan
from study.analyze.analysis import examine
from study.analyze.chains import chains, tree
from study.space import PRESETS
from tests.analyze_helpers import search, write
from tests.store_helpers import NUMERICS


def of(tmp_path, trials):
    return examine(write(tmp_path / "s", search(trials), space=PRESETS["notebook"]).path)


def test_the_chains_are_those_that_the_store_has_addresses_for(tmp_path):
    analysis = of(tmp_path, 40)
    found = pd.DataFrame(chains(analysis))
    requests = [plan(record.config, "d" * 64, NUMERICS) for record in analysis.complete]
    for stage in STAGES["mixture"].needs:
        addresses = [request[stage].spec.address for request in requests]
        of_stage = found[found.stage == stage]
        assert sorted(of_stage.trials) == sorted(addresses.count(one) for one in set(addresses)), stage
    assert found.groupby("stage").trials.sum().to_dict() == dict.fromkeys(PIPELINE, 40)


def test_a_chain_is_needed_as_often_as_it_is_read_and_trained_as_far_as_the_longest_trial(tmp_path):
    analysis = of(tmp_path, 144)
    baseline = pd.DataFrame(chains(analysis)).query("stage == 'baseline'")
    assert len(baseline) == 2 * 3  # sizes and numbers of examples
    assert set(baseline.trials) == {24}
    assert set(baseline.once) == {4}
    assert set(baseline.epochs) == {4 * (1 + 2 + 3 + 4 + 4 + 4)}  # of trials with 1, 2, 3, 4, 6 and 8, which stop at 4
    assert (baseline.seconds_once < baseline.seconds / 10).all()


def test_a_mixture_depends_on_the_epochs_that_its_inputs_are_read_at(tmp_path):
    mixtures = pd.DataFrame(chains(of(tmp_path, 144))).query("stage == 'mixture'")
    assert len(mixtures) == 2**3 * 3 * 4  # 4, 6 and 8 epochs are all read at epoch 4
    assert "large baseline at epoch 3" in " ".join(map(str, mixtures.inputs))


def test_the_tree_has_a_line_for_each_network_and_lists_the_chains_of_it(tmp_path):
    html = tree(of(tmp_path, 160))
    assert re.findall(r"<b>([^<]*)</b>", html)[8:12] == [
        "all stages", "baseline", "large, train_examples 1000", "large, train_examples 2500",
    ]  # fmt: skip
    assert re.search(r"<li>seed 0: 4 epochs, read by 24 trials</li>", html)
    assert re.search(r"<li>and \d\d more</li>", html)  # mixtures
    shares = [tuple(map(float, each)) for each in re.findall(r"--once:([\d.]+)%;--all:([\d.]+)%", html)]
    assert all(0 < once <= needed <= 100 for once, needed in shares)
    assert max(needed for _, needed in shares) == 100


def test_every_stage_of_two_sizes_has_its_field_among_those_that_no_stage_sees():
    assert {name: STAGES[name].size_flag for name in SIZE_FLAGS} == SIZE_FLAGS
    assert set(SIZE_FLAGS.values()) < NOT_SEEN
