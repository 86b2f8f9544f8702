import dataclasses
import itertools

import pytest
import torch

from moe.config import NOT_SEEN, PRECISIONS, Config
from moe.schema import fields
from moe.stages import GENERALISTS, MEMBERS, PIPELINE, STAGES, Checkpoint, Spec, plan, request, resolved
from moe.training.numerics import Numerics

NUMERICS = Numerics(device="cpu", torch="2.15", instructions="AVX2")
LABELS = torch.arange(10)


def another(value):
    """A value of the same kind that a spec may have instead."""
    if value == "holdout":
        return "notebook"
    if isinstance(value, int):
        return value + 1
    others = {str: "other", float: 0.5, tuple: (Checkpoint("gate", "a", 1),)}
    return others.get(type(value)) or dataclasses.replace(NUMERICS, instructions="AVX")


def test_every_choice_of_a_config_changes_its_plan():
    others = {int: 77, float: 0.5, bool: True}
    for name in fields(Config):
        value = getattr(Config(), name)
        other = {"protocol": "notebook", "precision": "bfloat16"}.get(name) or others[type(value)]
        config = Config(**{name: other})
        numerics = dataclasses.replace(NUMERICS, precision=config.precision)
        assert plan(config, "data", numerics) != plan(Config(), "data", NUMERICS), name


def test_the_plan_names_five_requests_of_which_the_mixture_needs_the_others():
    requests = plan(Config(epochs=3), "data", NUMERICS)
    assert list(requests) == ["baseline", "gate", "artificial", "natural", "mixture"]
    assert all(request.epochs == 3 for request in requests.values())
    assert requests["mixture"].spec.inputs == tuple(list(requests.values())[:4])


def test_a_plan_is_in_the_configs_precision_and_in_no_other():
    for asked, configured in itertools.product(PRECISIONS, repeat=2):
        config, numerics = Config(precision=asked), dataclasses.replace(NUMERICS, precision=configured)
        if asked == configured:
            requests = plan(config, "data", numerics)
            assert {request.spec.numerics.precision for request in requests.values()} == {asked}
        else:
            with pytest.raises(AssertionError):
                plan(config, "data", numerics)


@pytest.mark.parametrize(
    ("stage", "rows", "labels"),
    [
        ("baseline", list(range(10)), list(range(10))),
        ("gate", list(range(10)), [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]),
        ("artificial", [0, 1, 8, 9], [0, 1, 8, 9]),
        ("natural", [2, 3, 4, 5, 6, 7], [2, 3, 4, 5, 6, 7]),
        ("mixture", list(range(10)), list(range(10))),
    ],
)
def test_each_stage_sees_its_classes_under_its_labels(stage, rows, labels):
    taken, seen = STAGES[stage].view(LABELS)
    assert LABELS[taken].tolist() == rows
    assert seen[taken].tolist() == labels


@pytest.mark.parametrize(
    ("flag", "stages"),
    [
        ("use_large_baseline_classifier", {"baseline", "mixture"}),
        ("use_large_gating_mlp", {"gate", "mixture"}),
        ("use_large_experts", {"artificial", "natural", "mixture"}),
    ],
)
def test_a_size_flag_changes_the_address_of_its_networks_and_of_the_mixture_alone(flag, stages):
    before, after = (plan(Config(**{flag: large}), "data", NUMERICS) for large in (False, True))
    assert {name for name in PIPELINE if before[name].spec.address != after[name].spec.address} == stages


@pytest.mark.parametrize("field", sorted(fields(Spec).keys() - NOT_SEEN))
def test_changing_any_field_of_a_spec_changes_its_address(field):
    spec = plan(Config(), "data", NUMERICS)["baseline"].spec
    assert spec.replace(**{field: another(getattr(spec, field))}).address != spec.address


def test_a_spec_has_the_choices_of_its_config_except_those_that_it_does_not_see():
    config = Config(epochs=9, batch_size=7, learning_rate=0.5, use_large_experts=True, seed=3)
    spec = plan(config, "data", NUMERICS)["artificial"].spec
    assert {name: getattr(spec, name) for name in fields(Config) if name not in NOT_SEEN} == {
        name: value for name, value in config if name not in NOT_SEEN
    }
    assert (spec.epochs, spec.use_large_experts, spec.network) == (1, False, "large")


def test_fields_that_a_spec_does_not_see_are_no_part_of_the_address():
    spec = plan(Config(), "data", NUMERICS)["baseline"].spec
    assert spec.replace(epochs=9, use_large_experts=True, precision="bfloat16").address == spec.address


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Numerics)])
def test_the_numerics_are_part_of_the_address(field):
    spec = plan(Config(), "data", NUMERICS)["baseline"].spec
    value = getattr(NUMERICS, field)
    other = not value if isinstance(value, bool) else (value + 1 if isinstance(value, int) else "other")
    changed = spec.replace(numerics=dataclasses.replace(NUMERICS, **{field: other}))
    assert changed.address != spec.address


def test_epochs_are_how_far_one_reads_and_no_part_of_the_address():
    one, ten = (plan(Config(epochs=epochs), "data", NUMERICS)["gate"].spec for epochs in (1, 10))
    assert one.address == ten.address


@pytest.mark.parametrize(
    ("names", "flag"), [(GENERALISTS, "use_large_experts"), (MEMBERS, "use_large_baseline_classifier")]
)
def test_generalists_have_the_size_of_the_experts_and_of_the_baseline_and_an_address_of_their_own(names, flag):
    baseline = plan(Config(), "data", NUMERICS)["baseline"].spec
    for name in names:
        small, large = (request(Config(**{flag: size}), name, "data", NUMERICS).spec for size in (False, True))
        assert (small.network, large.network) == ("small", "large")
        assert small.hashed() == {**baseline.hashed(), "stage": name}
        assert small.address != baseline.address


def test_the_mixtures_spec_names_the_checkpoints_that_its_inputs_came_to():
    requests = plan(Config(), "data", NUMERICS)
    checkpoints = {name: Checkpoint(name, requests[name].spec.address, 1) for name in STAGES["mixture"].needs}
    later = {**checkpoints, "gate": dataclasses.replace(checkpoints["gate"], epoch=2)}
    first, second = (resolved(requests["mixture"], each).spec for each in (checkpoints, later))
    assert first.inputs == tuple(checkpoints.values())
    assert first.address != second.address
