"""What a confirmation comes to, by the bits of its records."""

import json

import numpy as np
import pytest

from moe.arms import ARMS
from study.analyze.analysis import examine
from study.analyze.html import page
from study.analyze.tables import write_all
from study.confirm.__main__ import main
from study.confirm.plan import CHOICE
from study.confirm.price import seconds, seen
from study.confirm.report import report
from study.select.choice import brief
from tests.confirm.helpers import finish, plan_of
from tests.faults.hostile import FILES, INPUTS
from tests.study_helpers import a_folder, a_record


def test_a_finished_confirmation_is_shown_again(tmp_path, capsys):
    folder, *_ = a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    finish(confirmation, plan)
    assert main([str(folder.path)]) == 0
    assert "Verdict: improves" in capsys.readouterr().out
    assert main([str(folder.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "improves"


def test_a_confirmation_of_another_config_than_the_choice_is_said_to_be_that(tmp_path, capsys):
    folder, study, records = a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    outcome = finish(confirmation, plan)
    by_class, of_another = "The confirmation on", "is of another config than is chosen now"
    html = page(examine(folder.path))
    assert (by_class in html, of_another in html) == (True, False)
    folder.write_record(a_record(3, gain=0.2, epochs=2))
    write_all(folder, study, [*records, a_record(3, gain=0.2, epochs=2)])
    html = page(examine(folder.path))
    assert by_class not in html
    assert f"{of_another}: {brief(outcome.configs[CHOICE].config)}" in html
    assert html.index(of_another) < html.index("Verdict: improves")
    assert main([str(folder.path)]) == 0
    assert "best.json has changed since; --again" in capsys.readouterr().out


def test_a_damaged_result_is_one_sentence(tmp_path, capsys):
    folder, *_ = a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    finish(confirmation, plan)
    for damage in (b"{", b"\xff", b"{}"):
        confirmation.result.write_bytes(damage)
        for words in ((), ("--json",)):
            assert main([str(folder.path), *words]) == 4
            printed = capsys.readouterr()
            assert (printed.out, len(printed.err.splitlines())) == ("", 1)
            assert "confirm/result.json is damaged (" in printed.err


@pytest.mark.parametrize("name", ["confirm/plan.json", "confirm/result.json", "best.json"])
@pytest.mark.parametrize("kind", ["a FIFO", "a device that never ends", "a sparse terabyte", "lists that never close"])
def test_what_is_no_file_or_too_deep_is_one_sentence_and_nothing_waits(tmp_path, capsys, name, kind):
    folder, *_ = a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    finish(confirmation, plan)
    path = folder.path / name
    path.unlink()
    FILES[kind](path) if kind in FILES else path.write_bytes(INPUTS[kind])
    assert main([str(folder.path)]) == 4
    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    assert path.name in printed.err


def test_an_edited_verdict_is_refused(tmp_path, capsys):
    folder, *_ = a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    assert finish(confirmation, plan).verdict == "improves"
    text = confirmation.result.read_text()
    confirmation.result.write_text(text.replace('"improves"', '"inconclusive"'))
    assert main([str(folder.path)]) == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "result.json is damaged (it does not match its checksum)" in printed.err


def test_seeds_that_failed_are_reported_and_below_nine_of_ten_there_is_no_verdict(tmp_path):
    a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    outcome = finish(confirmation, plan, failed={501})
    assert outcome.verdict == "improves"
    assert outcome.configs["choice"].failed == ("seed 501: diverged",)
    assert "seed 501: diverged" in report(outcome, "shapes")
    assert finish(confirmation, plan, failed={501, 502}).verdict == "no verdict"


def test_the_outcome_is_that_of_the_bits(tmp_path):
    a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    outcome = finish(confirmation, plan)
    choice = outcome.configs["choice"]
    records = [each for each in confirmation.read_records(plan).values() if each.role == CHOICE]
    bits = {name: np.stack([record.bits(name) for record in records]) for name in ARMS}
    assert choice.arms["mixture"].accuracy == bits["mixture"].mean()
    gain = bits["mixture"].mean() - bits["baseline"].mean()
    assert choice.gain.difference == pytest.approx(gain)
    assert sum(step.difference for step in choice.steps) == pytest.approx(gain)
    for label in range(10):
        assert sum(step.classes[label] for step in choice.steps) == pytest.approx(choice.gain.classes[label])
    assert choice.better == (bits["mixture"].mean(1) > bits["baseline"].mean(1)).sum()
    assert choice.flattery == pytest.approx(0.05 - gain)
    assert choice.arms["oracle_gate"].mixture_minus is None  # a bound, no competitor
    assert [statement.words for statement in outcome.statements] == list(plan.contrasts[3:])
    assert all(statement.adjusted_p >= statement.p for statement in outcome.statements)


def test_what_varies_is_seen_on_three_seeds_of_the_choice_or_assumed():
    records = [a_record(number, replicate=number) for number in range(1, 5)]
    assert seen(records, records[0].config).seeds == 0  # results without bits
    assert seconds(records, records[0].config, 0) == pytest.approx(1.65 * 60)
