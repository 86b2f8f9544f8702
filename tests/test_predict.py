"""`python -m moe predict`, and `python -m moe --save`, as a person calls them."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from moe.__main__ import main as train
from moe.config import CLASS_NAMES, SUPERCLASSES
from moe.export import load
from moe.pictures import load as load_picture
from moe.pipeline import probabilities
from moe.predict import ORDER, main, predictions
from tests.test_pictures import painted

STAGES = ("gate", "baseline", "artificial", "natural", "mixture")
SIZES = {"small.png": (20, 20), "a rather long name.jpg": (300, 200), "[red]large.webp": (640, 480)}
TRAIN = ["--dataset", "shapes", "--protocol", "notebook", "--no-store"]
TRAIN += ["--train-examples", "60", "--test-examples", "50"]


def call(*arguments, cwd, stdout=subprocess.PIPE, **environment):
    environment = {**os.environ, **environment}
    environment.pop("COLUMNS", None) if "COLUMNS" not in environment else None
    return subprocess.run(
        [sys.executable, "-m", "moe", *map(str, arguments)],
        stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, cwd=cwd, env=environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """A folder with a mixture and pictures, and what the training printed."""
    folder = tmp_path_factory.mktemp("trained")
    done = call(*TRAIN, "--save", "m.safetensors", cwd=folder)
    assert done.returncode == 0, done.stderr
    for name, size in SIZES.items():
        painted(size).save(folder / name)
    (folder / "broken.png").write_text("text")
    return folder, done.stdout


@pytest.fixture
def folder(trained):
    return trained[0]


@pytest.fixture
def predict(folder, monkeypatch, capsys):
    """The command in that folder, in this process: its exit code, its output and its errors."""
    monkeypatch.chdir(folder)
    return lambda *words: (main(list(words)), *capsys.readouterr())


def test_training_names_the_file_and_the_next_command(trained):
    assert "python -m moe predict m.safetensors IMAGE" in trained[1].splitlines()[-1]


def test_the_origin_is_the_command(folder):
    description = load(folder / "m.safetensors").description
    assert description.origin.command == f"python -m moe {' '.join(TRAIN)} --save m.safetensors"
    assert description.result.dataset == "shapes"
    assert description.classes == CLASS_NAMES["shapes"]


@pytest.mark.parametrize(
    ("name", "part"),
    [("m.safetensors", "exists"), ("nowhere/m.safetensors", "nowhere"), (".", ".safetensors"), ("m", ".safetensors")],
)
def test_a_file_that_cannot_be_saved_is_refused_before_training_and_without_torch(name, part, folder, tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    done = call(*TRAIN, "--save", name, cwd=folder, PYTHONPATH=f"{tmp_path}:{Path.cwd()}")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"python -m moe: --save is {name}; expected ")
    assert part in done.stderr


def test_two_files_of_one_name_are_refused(tmp_path, capsys):
    (tmp_path / "link").symlink_to("m.safetensors")
    for name in ("link", "m.safetensors"):
        with pytest.raises(SystemExit) as ended:
            train([*TRAIN, "--json", str(tmp_path / name), "--save", str(tmp_path / "m.safetensors")])
        assert ended.value.code == 2
        assert "expected" in capsys.readouterr().err
    for option in ("--json", "--save"):
        with pytest.raises(SystemExit) as ended:
            train([*TRAIN, option, f"{tmp_path}/{'x' * 300}.safetensors"])
        assert ended.value.code == 2


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_mixture_is_saved_though_the_json_file_cannot_be(cache, tmp_path, monkeypatch):
    monkeypatch.setattr("moe.__main__.replace_file", full)
    assert train([*TRAIN, "--json", str(tmp_path / "j"), "--save", str(tmp_path / "m.safetensors")]) == 4
    assert load(tmp_path / "m.safetensors").description.result.dataset == "shapes"


def test_the_files_are_whole_before_the_table_is_printed_and_it_is_printed_though_one_fails(
    cache, tmp_path, monkeypatch
):
    printed = []

    def emit(text):
        printed.append((text, (tmp_path / "m.safetensors").exists()))

    monkeypatch.setattr("moe.__main__.emit", emit)
    monkeypatch.setattr("moe.__main__.replace_file", full)
    assert train([*TRAIN, "--json", str(tmp_path / "j"), "--save", str(tmp_path / "m.safetensors")]) == 4
    (data, before), *rest = printed
    assert data.startswith("Data: ")
    assert not before
    assert all(saved for _, saved in rest)
    lines = "\n".join(text for text, _ in rest).splitlines()
    assert lines[0].split()[0] == "stage"
    assert "python -m moe predict" in lines[-1]


def test_pictures_are_classified_and_unreadable_ones_named(folder):
    done = call("predict", "m.safetensors", "broken.png", *SIZES, "nowhere.png", cwd=folder)
    assert done.returncode == 4
    errors = done.stderr.splitlines()
    assert len(errors) == 2
    assert all(line.startswith("python -m moe predict: ") for line in errors)
    assert "broken.png" in errors[0]
    assert "nowhere.png" in errors[1]

    headline, _, head, *lines = done.stdout.splitlines()
    for part in ("m.safetensors", "shapes", "60 training images", "epochs 1", "seed 0", "50 test images"):
        assert part in headline
    assert head.split() == ["picture", *STAGES]
    assert len({len(line) for line in lines}) == 1  # aligned
    assert [line[: head.index("gate")].rstrip() for line in lines] == list(SIZES)

    images = torch.stack([load_picture(folder / name) for name in SIZES])
    predicted = probabilities(load(folder / "m.safetensors").networks, images)
    for row, (line, name) in enumerate(zip(lines, SIZES, strict=True)):
        expected = []
        for stage in STAGES:
            names = ("artificial", "natural") if stage == "gate" else CLASS_NAMES["shapes"]
            share, label = predicted[stage][row].max(0)
            expected += [names[label], f"{share:.1%}"]
        assert line.removeprefix(name).split() == expected


def test_no_readable_picture_is_an_empty_list_in_json(predict):
    code, printed, errors = predict("m.safetensors", "broken.png", "--json")
    assert (code, json.loads(printed)) == (4, [])
    assert "broken.png" in errors


def test_a_picture_named_twice_has_two_rows(predict):
    code, printed, _ = predict("m.safetensors", "small.png", "small.png")
    assert code == 0
    assert printed.count("small.png") == 2


def test_a_full_disk_is_one_sentence(folder):
    with open("/dev/full", "w") as full:
        done = call("predict", "m.safetensors", "small.png", cwd=folder, stdout=full)
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert "No space left on device" in done.stderr


def test_a_closed_pipe_is_silent(folder):
    reading, writing = os.pipe()
    os.close(reading)
    done = call("predict", "m.safetensors", "small.png", cwd=folder, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_is_no_mixture_is_one_sentence(predict):
    for name in ("nowhere.safetensors", "small.png"):
        code, printed, error = predict(name, "small.png")
        assert (code, printed) == (4, "")
        assert len(error.splitlines()) == 1
        assert error.startswith(f"python -m moe predict: {name} ")


@pytest.mark.parametrize("arguments", [(), ("m",), ("m", "x.png", "--epochs", "2")])
def test_wrong_usage_is_one_sentence_and_exit_code_2_without_torch(arguments, tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    done = call("predict", *arguments, cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{Path.cwd()}")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("python -m moe predict: ")


class TestTable:
    """Of two pictures, whose names are as long as a camera makes them."""

    PATHS = (Path("pictures/IMG_20260131.jpg"), Path("line\nbreak.png"))

    @pytest.fixture
    def table(self, monkeypatch):
        predicted = {stage: torch.eye(2 if stage == "gate" else 10)[[0, 1]] * 0.75 + 0.01 for stage in ORDER}

        def at(columns):
            monkeypatch.setenv("COLUMNS", str(columns))
            return predictions(self.PATHS, predicted, CLASS_NAMES["cifar10"]).splitlines()

        return at

    def test_a_wide_terminal_shows_a_row_per_picture(self, table):
        lines = table(140)
        assert len(lines) == 3
        assert lines[0].split() == ["picture", *ORDER]
        assert lines[1].split() == [str(self.PATHS[0]), "artificial", "76.0%", *["airplane", "76.0%"] * 4]

    @pytest.mark.parametrize("columns", [60, 80])
    def test_a_narrow_one_shows_a_row_per_picture_and_stage(self, columns, table):
        lines = table(columns)
        assert max(map(len, lines)) <= columns
        assert lines[0].split() == ["picture", "stage", "prediction"]
        assert len(lines) == 1 + 2 * len(ORDER)
        assert lines[1].split() == [str(self.PATHS[0]), "gate", SUPERCLASSES[0], "76.0%"]
        assert lines[2].split() == ["baseline", "airplane", "76.0%"]

    def test_even_on_30_columns_nothing_is_lost(self, table):
        lines = table(30)
        assert max(map(len, lines)) <= 30
        assert "".join(line.split(" ")[0] for line in lines[1:]).startswith(str(self.PATHS[0])[:20])

    def test_a_name_is_one_line(self, table):
        assert sum("line\\nbreak.png" in line for line in table(200)) == 1


def test_json_has_the_probability_of_every_class(predict):
    (found,) = json.loads(predict("m.safetensors", "small.png", "--json")[1])
    assert found["picture"] == "small.png"
    assert found["gate"].keys() == set(SUPERCLASSES)
    assert sum(found["baseline"].values()) == pytest.approx(1)
