"""Options that are made from the fields of a model."""

from argparse import ArgumentTypeError
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Le
from pydantic import Field

from moe.cli import Parser, SharedOptions, add_options, from_options, option, whole
from moe.config import Config
from moe.schema import Model, fields
from moe.store.location import default_location

PROGRAM = "python -m example"


class Example(Model):
    """A model with a field of each kind."""

    batch_size: Annotated[int, Ge(1), Le(9), Field(description="images per step")] = 5
    rate: Annotated[float, Field(title="R", description="of learning")] = 0.5
    mode: Annotated[Literal["fast", "slow"] | None, Field(description="of training")] = None
    folder: Annotated[Path | None, Field(description="of results")] = None
    name: Annotated[str | None, Field(description="of the run")] = None
    verbose: Annotated[bool, Field(description="print more")] = False


def parser_of(model, *names):
    parser = Parser(prog=PROGRAM)
    add_options(parser, model, *names)
    return parser


def parse(model, *arguments):
    return from_options(model, parser_of(model).parse_args(list(map(str, arguments))), PROGRAM)


def refusal(capsys, model, *arguments):
    """The sentence with which these options are refused."""
    with pytest.raises(SystemExit) as ended:
        parse(model, *arguments)
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_without_options_every_field_has_its_default():
    assert parse(Example) == Example()


def test_each_kind_of_field_is_read_from_its_option():
    words = "--batch-size 7 --rate 1e-3 --mode slow --folder a/b --name x --verbose"
    assert parse(Example, *words.split()) == Example(
        batch_size=7, rate=0.001, mode="slow", folder=Path("a/b"), name="x", verbose=True
    )


def test_an_option_is_named_after_its_field():
    assert option("train_examples") == "--train-examples"


@pytest.mark.parametrize(
    ("name", "value", "valid"),
    [
        ("--batch-size", "0", "1 to 9"),
        ("--batch-size", "ten", "whole number from 1 to 9"),
        ("--batch-size", "1.5", "whole number"),
        ("--rate", "fast", "a number"),
        ("--rate", "nan", "a number"),
        ("--mode", "medium", "fast, slow"),
    ],
)
def test_an_invalid_value_is_one_sentence_with_option_value_and_what_is_valid(capsys, name, value, valid):
    sentence = refusal(capsys, Example, name, value)
    assert sentence.startswith(f"{PROGRAM}: {name} is ")
    for part in (value, valid):
        assert part in sentence


@pytest.mark.parametrize("word", ["", " "])
def test_a_word_of_no_letters_is_refused_in_one_sentence(capsys, word):
    assert refusal(capsys, Example, word) == f"{PROGRAM}: {word!r} is not an option; expected no more words"


def test_help_has_description_range_choices_and_default_of_each_field():
    text = " ".join(parser_of(Example).format_help().split())
    for part in (
        "--batch-size N",
        "images per step (from 1 to 9; default: 5)",
        "--rate R",
        "{fast,slow}",
        "--folder PATH",
    ):
        assert part in text
    assert "None" not in text
    assert "False" not in text


def test_only_the_named_fields_get_an_option():
    given = parser_of(Example, "name").parse_args(["--name", "x"])
    assert vars(given) == {"name": "x"}


def test_every_field_of_a_config_is_an_option():
    parser = parser_of(Config)
    assert {option(name) for name in fields(Config)} <= {
        name for action in parser._actions for name in action.option_strings
    }
    assert from_options(Config, parser.parse_args([]), PROGRAM) == Config()


def test_a_conflict_between_fields_names_the_option(capsys):
    sentence = refusal(capsys, Config, "--batch-size", "6000")
    assert sentence.startswith(f"{PROGRAM}: --batch-size is 6000")


def test_shapes_take_no_data_folder(capsys):
    assert "--data is x;" in refusal(capsys, SharedOptions, "--dataset", "shapes", "--data", "x")


class TestStore:
    def test_a_path_becomes_absolute(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        options = parse(SharedOptions, "--store", "stages")
        assert options.store == options.location == str(tmp_path / "stages")

    def test_by_default_it_is_the_one_of_the_environment(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MOE_STORE", str(tmp_path))
        options = parse(SharedOptions)
        assert (options.store, options.location) == (None, str(tmp_path))

    def test_without_either_it_is_in_the_cache_of_the_user(self, monkeypatch):
        monkeypatch.delenv("MOE_STORE", raising=False)
        assert parse(SharedOptions).location == default_location()

    def test_none_is_used_with_no_store(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MOE_STORE", "")
        assert parse(SharedOptions, "--no-store").location is None

    @pytest.mark.parametrize(
        "location",
        ["", __file__, "nowhere://x", "s3://me:secret@bucket", "s3://", "s3://b//r", "s3://b/../r", "s3://b#r"],
    )
    def test_a_wrong_one_is_refused_under_the_name_of_its_option(self, capsys, location):
        assert refusal(capsys, SharedOptions, "--store", location).startswith(f"{PROGRAM}: --store is ")

    def test_a_wrong_one_in_the_environment_is_refused_under_its_name(self, capsys, monkeypatch):
        monkeypatch.setenv("MOE_STORE", __file__)
        assert refusal(capsys, SharedOptions).startswith(f"{PROGRAM}: MOE_STORE is {__file__}")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--stroe=x", "--dta=y"), "--stroe=x is not an option; expected --store"),
        (("--zzz",), "--zzz is not an option; expected one that --help lists"),
        (("word",), "word is not an option; expected no more words"),
    ],
)
def test_what_is_no_option_gets_the_one_that_is_closest(words, sentence, capsys):
    assert refusal(capsys, SharedOptions, *words) == f"{PROGRAM}: {sentence}"


@pytest.mark.parametrize("text", ["0", "6", "1.5", "many", ""])
def test_a_whole_number_out_of_range_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="expected a whole number from 1 to 5"):
        whole(1, 5)(text)


def test_whole_numbers_are_parsed():
    assert (whole()("-3"), whole(1, 5)("5")) == (-3, 5)
