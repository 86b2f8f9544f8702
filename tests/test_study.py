import json

import pytest

from moe.schema import decode
from study.study import Record, Study
from tests.study_helpers import a_record, a_result, a_study

RECORD = a_record(3)


def changed(**changes):
    """The record of trial 3 as JSON, with some entries changed; a dict changes entries within one."""
    entries = RECORD.as_json()
    for name, value in changes.items():
        entries[name] = {**entries[name], **value} if isinstance(value, dict) and entries[name] else value
    return json.dumps(entries)


@pytest.mark.parametrize("state", ["running", "complete", "failed"])
def test_a_record_comes_back_from_json_as_it_was(state):
    record = a_record(1, 0.1 + 0.2, state)
    assert decode(Record, json.dumps(record.as_json())) == record


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"replicate": "x"}, "replicate is 'x'; expected a whole number from 0"),
        ({"trial": True}, "trial is true"),
        ({"trial": 3.0}, "trial is 3.0"),
        ({"trial": 0}, "trial is 0; expected a whole number from 1"),
        ({"error": 5}, "error is 5; expected text"),
        ({"started": "soon"}, "started is 'soon'; expected a time"),
        ({"started": "2026-01-01T00:00:00"}, "started is '2026.*; expected a time with its zone"),
        ({"ended": "0001-01-01T00:00:00+14:00"}, "ended is '0001.*; expected a time"),
        ({"state": "banana"}, "state is 'banana'; expected one of running, complete, failed"),
        ({"state": "running"}, "state is running and result is present"),
        ({"state": "failed"}, "state is failed and result is present"),
        ({"result": None}, "state is complete and result is missing"),
        ({"result": "x"}, "result is 'x'; expected an object"),
        ({"config": [1]}, r"config is \[1\]; expected an object"),
        ({"config": {"epochs": 0}}, "config.epochs is 0"),
        ({"config": {"depth": 3}}, "config.depth is not known"),
        ({"config": {"epochs": 2}}, "config of the result is another"),
        ({"extra": 1}, "extra is not known"),
        ({"schema_version": 1}, "schema_version is 1; expected 2"),
    ],
)
def test_what_is_wrong_with_a_record_is_one_sentence(changes, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        decode(Record, changed(**changes))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gain", float("nan")),
        ("gain", 1e308),
        ("gain", 5),
        ("gain", True),
        ("discordance", "0.1"),
        ("discordance", -1),
        ("mixture_accuracy", 1.01),
        ("artificial_accuracy", "high"),
        ("oracle_gate_accuracy", [1]),
        ("average_accuracy", None),
    ],
)
def test_a_score_that_cannot_be_is_named(name, value):
    result = RECORD.result.as_json()
    with pytest.raises(ValueError, match=rf"^result\.score\.{name} is "):
        decode(Record, changed(result={"score": {**result["score"], name: value}}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seconds_reused", None),
        ("epochs_trained", "5"),
        ("seconds", 10**400),
        ("seconds", float("inf")),
        ("parameters", -1),
    ],
)
def test_a_total_that_cannot_be_is_named(name, value):
    result = RECORD.result.as_json()
    with pytest.raises(ValueError, match=rf"^result\.totals\.{name} is ") as refusal:
        decode(Record, changed(result={"totals": {**result["totals"], name: value}}))
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scored_examples", 0),
        ("scored_examples", "2000"),
        ("scored_examples", 2000.5),
        ("threads", "two"),
        ("device", [1]),
    ],
)
def test_a_fact_of_the_run_that_cannot_be_is_named(name, value):
    with pytest.raises(ValueError, match=rf"^result\.{name} is "):
        decode(Record, changed(result={name: value}))


def test_a_gain_that_is_not_the_difference_of_its_accuracies_is_refused():
    with pytest.raises(ValueError, match=r"gain is 0\.3; expected 0\.01"):
        a_result(0.01).score.replace(gain=0.3)


@pytest.mark.parametrize("entry", ["trial", "replicate", "config", "started"])
def test_what_every_record_has_is_named_where_it_is_missing(entry):
    entries = RECORD.as_json()
    del entries[entry]
    with pytest.raises(ValueError, match=f"^{entry} is missing$"):
        decode(Record, entries)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("seed", 77, 0), ("precision", "bfloat16", "float32"), ("protocol", "notebook", "holdout")],
)
def test_a_record_of_another_study_names_what_differs(name, value, expected):
    record = a_record(3, **{name: value})
    with pytest.raises(ValueError, match=f"{name} of its config is {value!r}; expected {expected!r}"):
        record.check(a_study())


def test_a_record_off_the_space_is_refused():
    with pytest.raises(ValueError, match="epochs is 3; space small has 1, 2, 4"):
        a_record(3, epochs=3).check(a_study())


def test_a_record_of_other_data_is_refused():
    with pytest.raises(ValueError, match="data"):
        RECORD.check(a_study(data="e" * 64))


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("space", 3),
        ("space", {}),
        ("dataset", None),
        ("data_folder", 5),
        ("objective", "loss"),
        ("sampler", "zzz"),
        ("protocol", "q"),
        ("seed", "a"),
        ("trials", -5),
        ("data", None),
    ],
)
def test_what_is_wrong_with_a_study_names_the_entry(entry, value):
    with pytest.raises(ValueError, match=f"^{entry}(.name)? is "):
        decode(Study, {**a_study().as_json(), entry: value})


def test_all_configs_share_one_list_of_seeds():
    assert [a_study(seed=2).seed_of(replicate) for replicate in (0, 1)] == [2000, 2001]
