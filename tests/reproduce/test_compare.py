"""How two results are compared, and what is said of it."""

import math

import pytest

from study import machine
from study.reproduce.compare import compare, conditions
from study.reproduce.original import find
from study.reproduce.report import FIRST_ROWS, comparison_table, describe_conditions, explanation, verdict
from tests.reproduce.helpers import (
    NUMBERS,
    NUMBERS_AN_EPOCH,
    STAGES,
    edit,
    month,
    record,
    result,
)


def change_loss(found, stage, epoch, value):
    """The same result with another training loss."""
    one = found.stages[stage]
    epochs = list(one.epochs)
    epochs[epoch] = epochs[epoch].replace(loss=value)
    return found.replace(stages={**found.stages, stage: one.replace(epochs=tuple(epochs))})


def change_stage(found, stage, **changes):
    return found.replace(stages={**found.stages, stage: found.stages[stage].replace(**changes)})


def differing(then, now):
    return [one.name for one in compare(then, now) if one.differs]


@pytest.fixture(scope="module")
def found(made):
    return result(made, 2)


class TestCompare:
    def test_scores_stages_and_epochs_are_compared(self, found):
        then = {one.name: one.then for one in compare(found, found)}
        assert len(then) == NUMBERS + 2 * NUMBERS_AN_EPOCH
        assert then["score.gain"] == found.gain
        assert then["stages.natural.epochs.2.loss"] == found.stages["natural"].epochs[1].loss
        assert then["stages.mixture.stopped"] == "epochs"
        assert then["stages.mixture.best_epoch"] == found.stages["mixture"].best_epoch
        assert then["scored_examples"] == 100

    def test_times_and_reuse_are_not_compared(self, found):
        other = found.replace(totals=found.totals.replace(seconds=1e6, epochs_reused=9, epochs_trained=0))
        other = change_stage(other, "gate", seconds=1e6, epochs_reused=2, epochs_trained=0)
        assert differing(found, other) == []

    def test_one_bit_is_a_difference(self, found):
        loss = found.stages["gate"].epochs[0].loss
        assert differing(found, change_loss(found, "gate", 0, loss)) == []
        assert differing(found, change_loss(found, "gate", 0, math.nextafter(loss, 9))) == ["stages.gate.epochs.1.loss"]

    def test_a_word_and_an_epoch_that_only_one_result_has_are_infinitely_far_apart(self, found):
        shorter = change_stage(found, "gate", epochs=found.stages["gate"].epochs[:1], stopped="patience", best_epoch=1)
        for one in (*compare(found, shorter), *compare(shorter, found)):
            if one.name == "stages.gate.stopped" or one.name.startswith("stages.gate.epochs.2."):
                assert one.differs
                assert one.distance == math.inf

    def same(self, original):
        now = original.result
        return {"device": "cpu", "instructions": now.instructions, "data": now.data}

    def test_only_the_code_differs_on_the_same_machine(self, made):
        found = conditions(find(made, 1), **self.same(find(made, 1)))
        assert [one.name for one in found if one.differs] == ["code"]

    @pytest.mark.parametrize(
        ("change", "name"),
        [
            ({"device": "NVIDIA H200"}, "device"),
            ({"instructions": "AVX9"}, "instruction set"),
            ({"data": "0" * 64}, "data"),
        ],
    )
    def test_a_condition_that_differs_is_named(self, made, change, name):
        original = find(made, 1)
        found = conditions(original, **{**self.same(original), **change})
        assert [one.name for one in found if one.differs] == [name, "code"]

    def test_a_version_that_differs_or_is_not_recorded_is_named(self, folder):
        edit(record(folder), "started", to=month(6).isoformat())  # its run recorded the version of torch only
        found = {one.name: one for one in conditions(find(folder, 1), **self.same(find(folder, 1)))}
        assert (found["torch"].then, found["torch"].now) == ("9.9", machine.versions()["torch"])
        assert (found["numpy"].then, found["numpy"].differs) == ("not recorded", True)

    @pytest.mark.parametrize(
        ("then", "now", "differs"),
        [
            ("a" * 40, "a" * 40, False),
            ("a" * 40, "b" * 40, True),
            ("a" * 40, "a" * 40 + "+", True),
            ("a" * 40 + "+", "a" * 40 + "+", True),  # changes since a commit may be others each time
            (None, "a" * 40, True),
            ("a" * 40, None, True),
            (None, None, True),
        ],
    )
    def test_code_is_the_same_at_the_same_commit_without_changes(self, folder, monkeypatch, then, now, differs):
        monkeypatch.setattr(machine, "commit", lambda: now)
        edit(folder / "study.json", "runs", 0, "commit", to=then)
        found = conditions(find(folder, 1), **self.same(find(folder, 1)))
        assert [one.differs for one in found if one.name == "code"] == [differs]


class TestReport:
    @pytest.fixture
    def numbers(self, found):
        """A word, then 13 losses that differ by ever more."""
        other = change_stage(found, "gate", stopped="patience")
        for place in range(10):
            stage, epoch = STAGES[place // 2], place % 2
            other = change_loss(other, stage, epoch, found.stages[stage].epochs[epoch].loss + 1e-7 * (place + 1))
        return compare(found, change_stage(other, "natural", best_epoch=9))

    def test_the_table_has_the_largest_differences_first_and_counts_the_rest(self, numbers):
        lines = comparison_table(numbers).splitlines()
        assert len(lines) == 1 + len(FIRST_ROWS) + 10 + 1
        assert [line.split()[0] for line in lines[1:4]] == list(FIRST_ROWS)
        assert lines[4].split() == ["stages.gate.stopped", "epochs", "patience", "different"]
        assert lines[5].split()[0] == "stages.natural.best_epoch"
        assert lines[6].split()[0] == "stages.mixture.epochs.2.loss"
        assert lines[6].endswith("+1.0e-06")
        assert lines[-1].startswith("and 2 more")
        assert lines[-1].endswith("2.0e-07")

    def test_the_verdict_counts_the_differences_and_names_the_largest(self, numbers):
        assert verdict(numbers).startswith(f"differs: 12 of {len(numbers)} numbers, stages.gate.stopped")

    def test_without_a_difference_all_are_identical(self, found):
        numbers = compare(found, found)
        assert verdict(numbers).startswith(f"identical: all {len(numbers)} ")

    def test_a_difference_in_gain_is_set_against_the_noise_over_images(self, found):
        score = {"gain": 0.02, "mixture_accuracy": 0.4, "baseline_accuracy": 0.38, "discordance": 0.1}
        then = found.replace(score=found.score.replace(**score), scored_examples=2000, right=None)
        now = then.replace(score=then.score.replace(gain=0.015, mixture_accuracy=0.395))
        text = explanation(then, now, [])
        assert "-0.50 points from the study's +2.00" in text
        assert "0.71" in text  # 100 * sqrt((0.1 - 0.015**2) / 2000)

    def test_what_differs_may_explain_a_difference(self, made, found):
        known = conditions(find(made, 2), device="cpu", instructions="AVX9", data=found.data)
        text = explanation(found, found, known)
        assert "instruction set " in text
        assert "here AVX9" in text

    def test_where_nothing_differs_the_record_may_have_been_edited(self, found):
        assert "edited" in explanation(found, found, [])

    def test_changes_since_a_commit_are_named_as_such(self, folder, found, monkeypatch):
        monkeypatch.setattr(machine, "commit", lambda: "a" * 40 + "+")
        edit(folder / "study.json", "runs", 0, "commit", to="a" * 40 + "+")
        known = conditions(find(folder, 2), device="cpu", instructions=found.instructions, data=found.data)
        assert "code aaaaaaaaaaaa with changes both then and here" in describe_conditions(known)
