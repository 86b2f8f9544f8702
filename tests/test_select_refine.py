"""Which trials refining wants, and that the ledger runs them in its stages."""

import itertools

import numpy as np
import pytest

from study.search.ledger import Ledger, Verdict
from study.select.choice import choose
from study.select.refine import most, replicates
from study.space import PRESETS
from study.study import LOST, REFINE_FROM
from tests.study_helpers import a_record, a_result, a_study

SPACE = PRESETS["notebook"]


def searched(study, gains):
    """One complete trial for each gain, at the first points of the space; the notebook's default is the first."""
    places = zip(gains, range(study.space.size), strict=False)
    return [a_record(place + 1, gain, **study.space.values(study.space.at(place))) for gain, place in places]


def refined(study, records, gain):
    """The records with everything that refining wants, stage by stage; and how many each stage took."""
    records, stages = list(records), []
    while wanted := replicates(study, records):
        stages.append(len(wanted))
        for each in wanted:
            values = study.space.values(each.point)
            found = gain(values, each.replicate)
            records.append(a_record(len(records) + 1, found, "complete", each.replicate, "refine", **values))
    return records, stages


@pytest.fixture
def study():
    return a_study(space=SPACE, refine=5, refine_seeds=4)


def test_leaders_the_default_and_a_random_config_run_on_common_fresh_seeds(study):
    records = searched(study, [0.0] * 10 + [0.01 * n for n in range(20)])
    wanted = replicates(study, records)
    assert {each.replicate for each in wanted} == {REFINE_FROM, REFINE_FROM + 1}
    places = [study.space.position(each.point) for each in wanted]
    assert places[:5] == [29, 28, 27, 26, 25]
    assert places[5] == study.space.position(study.space.default)
    assert 0 < places[6] < 25
    assert places[7:] == places[:7]


def test_the_best_of_the_leaders_run_on_further_seeds_and_then_it_ends(study):
    records, stages = refined(study, searched(study, np.linspace(0, 0.1, 40)), lambda *_: 0.02)
    assert stages == [14, 8]
    assert sum(stages) == most(study)
    counts = {}
    for record in records:
        if record.phase == "refine":
            counts[study.space.position(study.space.point(record.config))] = record.config.seed
    assert choose(study, records).interval is not None


def test_equal_records_want_equal_trials_whatever_has_ended_of_the_stage(study):
    records = searched(study, np.linspace(0, 0.1, 40))
    first = replicates(study, records)
    half = [
        a_record(100 + n, 0.5, "complete", each.replicate, "refine", **study.space.values(each.point))
        for n, each in enumerate(first[:6])
    ]
    assert replicates(study, records + half) == first[6:]


def test_one_that_failed_is_not_wanted_again_unless_its_worker_was_lost(study):
    records = searched(study, np.linspace(0, 0.1, 40))
    first = replicates(study, records)[0]
    failed = a_record(99, None, "failed", first.replicate, "refine", **study.space.values(first.point))
    assert first not in replicates(study, [*records, failed])
    assert first in replicates(study, [*records, failed.replace(error=LOST)])


def test_without_leaders_or_trials_nothing_is_wanted(study):
    assert replicates(study, []) == []
    assert replicates(study.replace(refine=0), searched(study, [0.1] * 3)) == []
    assert most(study.replace(refine=0)) == 0


def run(ledger):
    """Every trial to its end, one at a time; the phases in their order."""
    phases, points = [], itertools.cycle(ledger.study.space.points())
    for _ in range(1000):
        if ledger.verdict() is Verdict.STOP:
            return phases
        record = ledger.next_planned() or ledger.start(next(points))
        phases.append((record.phase, record.replicate))
        ledger.complete(record.trial, a_result(0.01 * record.config.epochs, record.config))
    raise AssertionError("no end")


def test_the_ledger_refines_when_the_search_is_complete_and_a_resume_goes_on_there():
    study, saved = a_study(trials=6, refine=2, refine_seeds=3), []
    phases = run(Ledger(study, [], saved.append))
    assert phases[:6] == [("search", 0)] * 6
    assert {phase for phase, _ in phases[6:]} == {"refine"}
    ended = {record.trial: record for record in saved}
    for until in (7, 9, len(phases) - 1):
        interrupted = [record for record in ended.values() if record.trial <= until]
        interrupted[-1] = interrupted[-1].replace(state="running", result=None, ended=None)
        again = []
        run(Ledger(study, interrupted, again.append))
        whole = {**{record.trial: record for record in interrupted}, **{record.trial: record for record in again}}
        assert sorted((r.phase, r.config.model_dump_json()) for r in whole.values()) == sorted(
            (r.phase, r.config.model_dump_json()) for r in ended.values()
        )


def test_each_point_of_the_search_runs_on_every_seed():
    ledger = Ledger(a_study(trials=3, seeds=3), [], lambda record: None)
    assert run(ledger) == [("search", replicate) for _ in range(3) for replicate in range(3)]
