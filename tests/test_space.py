import json
import subprocess
import sys

import pytest

from moe.config import HOLDOUT, NOTEBOOK, Config
from moe.schema import decode
from study.space import PRESETS, Space, read

FLAGS = ("use_large_experts", "use_large_gating_mlp", "use_large_baseline_classifier")


@pytest.fixture
def small():
    return Space(
        name="small", grids={"epochs": (1, 2, 4), "use_large_experts": (False, True)}, fixed={"test_examples": 2000}
    )


@pytest.fixture
def written(tmp_path):
    def write(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return str(path)

    return write


def huge(fields=4):
    names = ("epochs", "batch_size", "train_examples", "patience")[:fields]
    return {name: tuple(range(10, 110)) for name in names}


def test_the_notebook_preset_is_the_designs():
    flags = dict.fromkeys(FLAGS, (False, True))
    grids = {"epochs": (1, 2, 3, 4, 6, 8), "train_examples": (1000, 2500, 5000), **flags}
    assert PRESETS["notebook"] == Space(name="notebook", grids=grids, fixed={"test_examples": 2000})
    assert PRESETS["notebook"].size == 144


def test_the_full_preset_is_the_designs():
    flags = dict.fromkeys(FLAGS, (False, True))
    grids = {"epochs": (1, 2, 4, 8, 16, 30), "train_examples": (5000, 10000, 20000, 30000, 45000), **flags}
    assert PRESETS["full"] == Space(name="full", grids=grids, fixed={"test_examples": 5000})
    assert PRESETS["full"].size == 240


@pytest.mark.parametrize("protocol", [HOLDOUT, NOTEBOOK])
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_read_by_its_name_under_either_protocol(name, protocol):
    assert read(name, protocol) is PRESETS[name]
    for point in PRESETS[name].points():
        assert Config(protocol=protocol, **PRESETS[name].values(point))


def test_a_preset_is_read_without_torch_ray_optuna_or_yaml():
    heavy = {"torch", "ray", "optuna", "yaml", "numpy"}
    read_full = "import sys; from study.space import read; read('full', 'holdout')"
    code = f"{read_full}; print({heavy} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"set()\n"


def test_a_file_s_lists_are_searched_in_their_order_and_its_scalars_are_fixed(written):
    path = written("batch_size: [100, 25, 50]\nepochs: [1, 2]\ntrain_examples: [500]\npatience: 3\n")
    space = read(path, HOLDOUT)
    grids = {"epochs": (1, 2), "batch_size": (100, 25, 50)}
    assert space == Space(name="mine", grids=grids, fixed={"train_examples": 500, "patience": 3})


def test_fields_stand_in_the_config_s_order_whatever_order_they_are_given_in(small):
    turned = Space(name="small", grids=dict(reversed(small.grids.items())), fixed=small.fixed)
    assert list(turned.points()) == list(small.points())


def test_yaml_s_other_spellings_of_numbers_and_flags_are_understood(written):
    space = read(written("learning_rate: [1e-3, 0.01, 1]\nuse_large_experts: [no, on]\n"), HOLDOUT)
    assert space.grids == {"learning_rate": (0.001, 0.01, 1.0), "use_large_experts": (False, True)}
    assert [type(rate) for rate in space.grids["learning_rate"]] == [float] * 3


def test_an_empty_mapping_searches_nothing(written):
    space = read(written("{}"), HOLDOUT)
    assert (space.size, list(space.points()), space.values({})) == (1, [{}], {})


def test_rules_about_resources_are_no_part_of_the_points(written):
    grids = "learning_rate: [1e-3, 0.01]\nuse_large_experts: [no, yes]\n"
    path = written(grids + "resources: [{use_large_experts: yes, learning_rate: [1e-3, 1e-2], gpus: 1}]\n")
    space = read(path, HOLDOUT)
    assert space.replace(resources=()) == read(written(grids), HOLDOUT)
    assert decode(Space, space.as_json()) == space
    (rule,) = space.resources
    assert [rule.fits(Config(**space.values(point))) for point in space.points()] == [False, False, True, True]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epoch: 3", r"'epoch' is not a field of a config; expected one of epochs, batch_size, .*patience$"),
        ("1: 3", "'1' is not a field of a config"),
        ("seed: [1, 2]", "seed cannot be part of a space; it is given with --seed"),
        ("protocol: holdout", "protocol cannot be part of a space; it is given with --protocol"),
        ("epochs: [1, 2, 1]", "epochs has 1 more than once; expected each value once"),
        ("learning_rate: [0.001, 1e-3]", "learning_rate has 0.001 more than once"),
        ("epochs: []", "epochs is an empty list; expected at least one value"),
        ("epochs: [1, [2, 3]]", "epochs has a sequence in its list; expected a list of values"),
        ("epochs: {min: 1, max: 5}", r"epochs is a mapping \(min, max\); expected a value or a list of values"),
        ("epochs:", "epochs is null; expected a whole number"),
        ("epochs: [1, three]", "epochs is 'three'; expected a whole number"),
        ("epochs: [1, 2.5]", "epochs is 2.5; expected a whole number"),
        ("epochs: [1, yes]", "epochs is true; expected a whole number"),
        ("epochs: [1, 010]", "epochs has 010; expected a decimal number without leading zeros"),
        ("epochs: 1:30", "epochs has 1:30; expected a decimal number"),
        ("learning_rate: fast", "learning_rate is 'fast'; expected a number"),
        (f"learning_rate: 1{'0' * 400}", "learning_rate is inf; expected a number above 0"),
        ("learning_rate: .nan", "learning_rate is nan; expected a number above 0"),
        ("use_large_experts: 1", "use_large_experts is 1; expected true or false"),
        ("epochs: [0, 1]", "epochs is 0; expected a whole number from 1"),
        ("batch_size: [50, 25]\ntrain_examples: 30", "batch_size is 50; expected 1 to 30"),
        ("train_examples: [1000, 46000]", "train_examples is 46000; expected 10 to 45000 under the holdout"),
        ("epochs: 1\nepochs: 2", "epochs is given twice; expected each field once"),
        ("epochs: [1, 2", "cannot be read as YAML: while parsing a flow sequence"),
        ("- epochs", "the file is not a mapping; expected lines like `epochs"),
        ("", "the file is not a mapping"),
        ("\x07", "cannot be read as YAML"),
        ("[" * 1000, "cannot be read as YAML"),
        ("resources: 2", "resources are no list of rules; expected lines like `- {epochs: 30, gpus: 1}`"),
        ("resources: [2]", "resources are no list of rules"),
        ("resources: [{cpus: 2}]", "a rule of resources is incomplete; expected lines like"),
        ("resources: [{epochs: [], cpus: 1}]", "a rule of resources is incomplete"),
        ("learning_rate: [0:0.6, 0.01]", "of base 60"),
        ("resources: [{epochs: 1}]", "a rule of resources is incomplete"),
        ("resources: [{epochs: {}, cpus: 2}]", "epochs is a mapping"),
        ("resources: [{epochs: 1, cpu: 2}]", "'cpu' is not a field of a config"),
        ("resources: [{epochs: 1, cpus: 0}]", "cpus is 0; expected a whole number from 1 to 4096"),
        ("resources: [{epochs: 1, gpus: 1.5}]", "gpus is 1.5; expected 0, a fraction from 0.01"),
        ("resources: [{epochs: 3, cpus: 2}]", "a rule for epochs 3, which no trial has; expected 1"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence_that_names_it(written, text, sentence):
    path = written(text)
    with pytest.raises(ValueError, match=sentence) as refusal:
        read(path, HOLDOUT)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "image.yaml").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match="cannot be read as YAML: 'utf-8' codec"):
        read(str(tmp_path / "image.yaml"), HOLDOUT)


@pytest.mark.parametrize("name", ["fulll", "missing.yaml", "", "."])
def test_what_is_neither_a_preset_nor_a_file_is_refused_with_the_presets(name):
    with pytest.raises(ValueError, match=r"is neither a preset \(notebook, full\) nor a YAML file that exists"):
        read(name, HOLDOUT)


def test_the_protocol_decides_how_many_images_there_are(written):
    path = written("test_examples: [1000, 10000]")
    assert read(path, NOTEBOOK).grids["test_examples"] == (1000, 10_000)
    with pytest.raises(ValueError, match="test_examples is 10000; expected 10 to 5000 under the holdout"):
        read(path, HOLDOUT)


def test_a_wrong_value_is_found_wherever_it_stands_in_a_space_too_large_to_try_every_point(written):
    numbers = list(range(10, 110))
    text = f"epochs: {numbers}\nbatch_size: {numbers}\npatience: "
    assert read(written(text + "[1, 2, 3]"), HOLDOUT).size == 30_000
    with pytest.raises(ValueError, match="patience is 0; expected a whole number from 1"):
        read(written(text + "[1, 0, 3]"), HOLDOUT)
    with pytest.raises(ValueError, match="patience is 'three'; expected a whole number"):
        read(written(text + "[1, 2, three]"), HOLDOUT)


def test_a_rule_between_fields_is_checked_at_the_corners_of_a_large_space(written):
    numbers = list(range(10, 110))
    text = f"epochs: {numbers}\nbatch_size: {numbers}\ntrain_examples: "
    assert read(written(text + "[500, 109, 900]"), HOLDOUT).size == 30_000
    with pytest.raises(ValueError, match="batch_size is 109; expected 1 to 100, the train_examples"):
        read(written(text + "[500, 100, 900]"), HOLDOUT)


def test_more_than_a_million_points_are_refused():
    assert Space(name="large", grids=huge(3), fixed={}).size == 1_000_000
    with pytest.raises(ValueError, match="the grids have 100000000 points; expected at most 1000000"):
        Space(name="larger", grids=huge(4), fixed={})


def test_a_grid_of_one_and_a_field_given_twice_are_refused():
    with pytest.raises(ValueError, match="the grid of epochs has 1 values; expected 2 or more"):
        Space(name="narrow", grids={"epochs": (1,)}, fixed={})
    with pytest.raises(ValueError, match="epochs is both searched and fixed"):
        Space(name="both", grids={"epochs": (1, 2)}, fixed={"epochs": 3})


def test_a_point_stands_for_its_values_and_back(small):
    assert small.values({"epochs": 2, "use_large_experts": 1}) == {
        "test_examples": 2000,
        "epochs": 4,
        "use_large_experts": True,
    }
    for point in small.points():
        assert small.point(Config(**small.values(point))) == point


def test_points_are_counted_in_the_order_in_which_they_come(small):
    points = list(small.points())
    assert len(points) == small.size == 6
    assert points[:2] == [{"epochs": 0, "use_large_experts": 0}, {"epochs": 0, "use_large_experts": 1}]
    for space in (small, PRESETS["full"]):
        points = list(space.points())
        assert [space.position(point) for point in points] == list(range(space.size))
        assert [space.at(position) for position in range(space.size)] == points


def test_values_off_the_grid_are_refused(small):
    with pytest.raises(ValueError, match="epochs is 3; space small has 1, 2, 4"):
        small.point(Config(epochs=3, test_examples=2000))
    with pytest.raises(ValueError, match="test_examples is 1000; space small fixes it at 2000"):
        small.point(Config(epochs=1, test_examples=1000))


def test_an_index_outside_its_grid_is_refused(small):
    for index in (-1, 3):
        with pytest.raises(ValueError, match=f"the index of epochs is {index}; expected 0 to 2"):
            small.values({"epochs": index, "use_large_experts": 0})
    with pytest.raises(KeyError, match="epochs"):
        small.values({"use_large_experts": 0})


def test_the_default_point_has_equal_flags_and_numbers_nearest_by_ratio():
    grids = {"batch_size": (5, 10, 120), "learning_rate": (2e-4, 4e-3), "use_large_experts": (True, False)}
    space = Space(name="s", grids=grids, fixed={})
    assert space.default == {"batch_size": 2, "learning_rate": 1, "use_large_experts": 1}  # near 50, 0.001 and False
    assert Space(name="s", grids={"batch_size": (20, 150)}, fixed={}).default == {"batch_size": 0}


@pytest.mark.parametrize(("name", "epochs", "examples"), [("notebook", 1, 5000), ("full", 1, 5000)])
def test_the_point_nearest_to_the_default_config_is_the_notebook_s_own(name, epochs, examples):
    values = PRESETS[name].values(PRESETS[name].default)
    assert (values["epochs"], values["train_examples"]) == (epochs, examples)
    assert not any(values[flag] for flag in FLAGS)


@pytest.mark.parametrize("name", [*PRESETS, "rates"])
def test_json_gives_back_an_equal_space_in_the_same_order(name):
    rates = Space(
        name="rates", grids={"learning_rate": (0.1, 1, 1e-5), "epochs": (1, 2)}, fixed={"use_large_experts": True}
    )
    space = {**PRESETS, "rates": rates}[name]
    again = decode(Space, json.dumps(space.as_json(), sort_keys=True))
    assert again == space
    assert list(again.points()) == list(space.points())
    assert json.dumps(again.as_json()) == json.dumps(space.as_json())
