import math

import pytest

from moe.config import Config
from moe.schema import shown


def test_defaults_are_the_notebooks():
    config = Config()
    assert (config.epochs, config.batch_size, config.train_examples, config.test_examples) == (1, 50, 5000, 1000)
    flags = (config.use_large_experts, config.use_large_gating_mlp, config.use_large_baseline_classifier)
    assert flags == (False, False, False)
    assert (config.learning_rate, config.patience, config.protocol) == (1e-3, 2, "holdout")


@pytest.mark.parametrize(
    ("field", "value", "valid"),
    [
        ("epochs", 0, "1 to"),
        ("epochs", -3, "1 to"),
        ("epochs", 1.5, "whole number"),
        ("epochs", True, "whole number"),
        ("epochs", None, "whole number"),
        ("batch_size", 0, "1 to"),
        ("batch_size", 5001, "1 to 5000, the train_examples"),
        ("train_examples", 9, "from 10"),
        ("train_examples", 45_001, "10 to 45000"),
        ("test_examples", 0, "from 10"),
        ("test_examples", 5001, "10 to 5000"),
        ("learning_rate", math.nan, "above 0"),
        ("learning_rate", 0, "above 0"),
        ("learning_rate", -1.0, "above 0"),
        ("learning_rate", math.inf, "above 0"),
        ("learning_rate", "fast", "a number"),
        ("patience", 0, "1 to"),
        ("seed", -1, "0 to"),
        ("seed", 2**31, "0 to"),
        ("protocol", "honest", "holdout, notebook"),
        ("use_large_experts", 1, "true or false"),
    ],
)
def test_a_wrong_value_gets_one_sentence_with_field_value_and_what_is_valid(field, value, valid):
    with pytest.raises(ValueError, match=f"^{field} is ") as refusal:
        Config(**{field: value})
    sentence = str(refusal.value)
    assert f"{shown(value)}; expected" in sentence
    assert valid in sentence
    assert "\n" not in sentence


def test_the_notebook_protocol_has_more_images():
    config = Config(protocol="notebook", train_examples=50_000, test_examples=10_000)
    assert config.train_examples == 50_000
    with pytest.raises(ValueError, match="train_examples is 50001; expected a whole number from 10 to 50000"):
        Config(protocol="notebook", train_examples=50_001)


def test_a_whole_learning_rate_is_the_same_choice_as_its_float():
    assert repr(Config(learning_rate=1)) == repr(Config(learning_rate=1.0))
