"""The command `python -m study.analyze`."""

import hashlib
import json
import struct
import subprocess
import sys
import threading
import time
from importlib.metadata import version

import optuna
import pytest

from study.analyze.__main__ import main
from study.analyze.analysis import examine
from study.folder import FolderError
from study.space import PRESETS, parse
from tests.analyze_helpers import call, search, write
from tests.cli_helpers import outcomes, without
from tests.study_helpers import a_record

PNG = b"\x89PNG\r\n\x1a\n"
FIGURES = ["accuracies.png", "cost.png", "curves.png", "effects.png", "gains.png", "trials.png"]
NOTEBOOK = {"space": PRESETS["notebook"]}
FIXED = parse("fixed", {"epochs": 3})


def contents(folder):
    """Every file of a folder with its content and time, but for figures and page."""
    files = [path for path in folder.rglob("*.*") if path.is_file() and path.suffix not in (".png", ".html")]
    return {path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Every odd study: their folder, what it held before, and the command over all of them at once."""
    path = tmp_path_factory.mktemp("odd")
    others = [a_record(31, state="running", test_examples=2000), a_record(32, state="failed", test_examples=2000)]
    write(path / "one", search(1), **NOTEBOOK)
    write(path / "running", [*search(30), *others], **NOTEBOOK)
    write(path / "all-failed", [a_record(n, state="failed") for n in (1, 2, 3)])
    write(path / "begun", [])
    write(path / "equal", [a_record(n, 0.01, replicate=n, epochs=2 ** (n % 3)) for n in range(1, 13)])
    write(path / "seeds", [a_record(n + 1, 0.01 * n, replicate=n, epochs=3) for n in range(4)], space=FIXED)
    optimistic = {"protocol": "notebook", "objective": "mixture_accuracy", **NOTEBOOK}
    write(path / "$\\odd$ 名", search(70, protocol="notebook"), **optimistic)
    before = contents(path)
    traps = tmp_path_factory.mktemp("traps")
    first, *rest = sorted(path.iterdir())
    return path, before, call(first, "--rows", "3", *rest, **without(traps, "torch", "ray"))


def test_every_odd_study_is_analysed_without_torch_ray_or_a_warning(odd):
    _, _, done = odd
    assert (done.returncode, done.stderr) == (0, "")
    assert "nan" not in done.stdout
    assert "\x1b" not in done.stdout  # no colours in a pipe


def test_only_figures_and_page_are_written(odd):
    path, before, _ = odd
    assert contents(path) == before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("one", [figure for figure in FIGURES if figure != "effects.png"]),
        ("seeds", [figure for figure in FIGURES if figure not in ("effects.png", "curves.png")]),
        ("all-failed", []),
        ("begun", []),
        ("running", FIGURES),
        ("equal", [figure for figure in FIGURES if figure != "curves.png"]),
        ("$\\odd$ 名", FIGURES),
    ],
)
def test_a_study_gets_the_figures_that_its_trials_allow(name, expected, odd):
    folder, _, done = odd
    drawn = sorted((folder / name / "figures").glob("*"))
    assert [path.name for path in drawn] == expected
    assert (f"{name}: no figures, since no trial is complete" in done.stdout) == (not expected)
    for path in drawn:
        content = path.read_bytes()
        width, height = struct.unpack(">II", content[16:24])
        assert content.startswith(PNG)
        assert 900 < width < 2000
        assert 600 < height < 2000
        assert len(content) > 10_000


@pytest.fixture
def command(monkeypatch, capsys):
    """The command within this process: its exit code, its output and its errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["analyze", *map(str, arguments)])
        return main(), *capsys.readouterr()

    return run


@pytest.mark.parametrize("option", ["--rebuild", "--accept"])
def test_a_folder_that_is_none_is_not_made(option, tmp_path, command):
    code, printed, complaint = command(tmp_path / "typo", option)
    assert (code, printed) == (4, "")
    assert "typo holds no study; expected a folder with study.json" in complaint
    assert list(tmp_path.iterdir()) == []


def test_json_is_all_that_is_printed_of_edits_that_are_accepted(tmp_path, command):
    folder = write(tmp_path / "edited", search(3), **NOTEBOOK)
    folder.definition.write_text(folder.definition.read_text().replace('"sha256": "', '"sha256": "0'))
    printed = command(folder.path, "--json", "--accept", "--no-figures")[1]
    assert json.loads(printed)[0]["study"] == "edited"


def test_studies_that_differ_are_said_not_to_compare(odd):
    assert "Not comparable: the studies differ in protocol" in odd[2].stdout


def test_in_a_pipe_lines_have_120_columns_at_most_and_the_table_uses_them(tmp_path):
    done = call(write(tmp_path / "piped", search(30), **NOTEBOOK).path, "--no-figures", COLUMNS="")
    assert 110 < max(map(len, done.stdout.split("\n"))) <= 120


NINE_THOUSAND = {
    "epochs": list(range(1, 41)),
    "batch_size": [10, 20, 25, 50, 100],
    "train_examples": list(range(1000, 46000, 1000)),
}


@pytest.mark.parametrize("space", [PRESETS["notebook"], parse("wide", NINE_THOUSAND)], ids=["144", "9,000"])
def test_ten_times_the_trials_are_reported_and_drawn_in_at_most_three_times_the_time(space, tmp_path, command):
    """A ratio, since machines differ; the seconds that 10,000 trials take are a benchmark's (`overhead`)."""
    seconds = {}
    for trials in (300, 3_000):
        folder = write(tmp_path / str(trials), search(trials, space), space=space)
        before = time.process_time()
        code, _, complaint = command(folder.path)
        seconds[trials] = time.process_time() - before
        assert (code, complaint) == (0, "")
        assert sorted(path.name for path in (folder.path / "figures").iterdir()) == FIGURES
    assert seconds[3_000] < 3 * seconds[300]


def test_the_database_is_written_in_full_where_it_is_asked_for(tmp_path, command):
    folder = write(tmp_path / "asked", search(5), **NOTEBOOK)
    assert command(folder.path, "--no-figures", "--rebuild")[0] == 0
    study = optuna.load_study(study_name="asked", storage=f"sqlite:///{folder.path / 'study.db'}")
    assert [trial.number for trial in study.trials if trial.value is not None] == [1, 2, 3, 4, 5]


def test_the_database_of_a_running_study_is_left_to_its_driver(tmp_path, command):
    folder = write(tmp_path / "busy", search(5), **NOTEBOOK)
    with folder.locked():
        code, _, complaint = command(folder.path, "--no-figures", "--rebuild")
    assert code == 4
    assert "in use" in complaint
    assert not (folder.path / "study.db").exists()


def test_ctrl_c_is_exit_code_130_without_a_word_from_the_first_import_on(tmp_path):
    (tmp_path / "pandas.py").write_text("raise KeyboardInterrupt")
    done = call("nowhere", **without(tmp_path, "torch"))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_full_disk_behind_the_tables_is_not_blamed_on_the_study(tmp_path):
    folder = write(tmp_path / "fine", search(2), **NOTEBOOK)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "study.analyze", "--no-figures", str(folder.path), "--rows", "3"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 4
    assert done.stderr.startswith("the output: ")
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_a_closed_pipe_is_no_error(tmp_path):
    folder = write(tmp_path / "fine", search(30), **NOTEBOOK)
    command = f"{sys.executable} -m study.analyze --no-figures {folder.path} | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_a_study_can_be_read_while_its_driver_writes_it(tmp_path):
    records = list(search(20))
    folder = write(tmp_path / "busy", records[:1], **NOTEBOOK)
    done = threading.Event()

    def drive():
        for record in records[1:] * 3:
            folder.write_record(record.replace(state="running", result=None))
            folder.write_record(record)
        done.set()

    driver = threading.Thread(target=drive)
    driver.start()
    sizes = []
    while not done.is_set():
        sizes.append(len(examine(folder.path).records))
    driver.join()
    assert sizes == sorted(sizes)
    assert len(examine(folder.path).table) == 20


WRONG = [
    ((), "STUDY"),
    (("results/x", "--rows", "-1"), "--rows is '-1'; expected a whole number from 0"),
    (("results/x", "--rows", "many"), "--rows is 'many'"),
    (("results/x", "--plot"), "--plot"),
]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    traps = without(tmp_path_factory.mktemp("light"), "torch", "ray", "pandas", "numpy", "optuna", "matplotlib")
    return outcomes("study.analyze.__main__", [arguments for arguments, _ in WRONG], traps)


@pytest.mark.parametrize(("arguments", "sentence"), WRONG)
def test_wrong_usage_is_one_sentence_and_exit_code_2_with_nothing_heavy_loaded(arguments, sentence, refusals):
    done = refusals[arguments]
    assert done.seconds < 2
    assert done.code == 2
    assert done.err.startswith("python -m study.analyze: ")
    assert sentence in done.err
    assert done.err.count("\n") == 1


def test_the_version_is_that_of_the_package():
    done = call("--version")
    assert (done.returncode, done.stdout) == (0, f"moe-study {version('moe-study')}\n")


def test_a_folder_without_a_study_is_one_sentence_and_exit_code_4(tmp_path, command):
    nowhere = f"python -m study.analyze: {tmp_path / 'nowhere'} holds no study; expected a folder with study.json\n"
    assert command(tmp_path / "nowhere") == (4, "", nowhere)
    with pytest.raises(FolderError, match="holds no study"):
        examine(tmp_path)


def test_a_damaged_record_is_one_sentence_and_exit_code_4(tmp_path, command):
    folder = write(tmp_path / "half", search(2), **NOTEBOOK)
    (folder.trials / "0002.json").write_text('{"trial": 2, "st')
    code, printed, complaint = command(folder.path)
    assert (code, printed) == (4, "")
    assert str(folder.trials / "0002.json") in complaint
    assert complaint.count("\n") == 1


def test_figures_that_cannot_be_written_are_one_sentence_after_the_tables(tmp_path, command):
    folder = write(tmp_path / "taken", search(3), **NOTEBOOK)
    (folder.path / "figures").write_text("a file in the folder's place")
    code, printed, complaint = command(folder.path)
    assert code == 4
    assert "3 configs" in printed
    assert (
        complaint
        == f"python -m study.analyze: {folder.path / 'figures'} is no folder; expected one, or nothing: move it away\n"
    )
    assert command(folder.path, "--no-figures")[::2] == (0, "")


def test_json_is_json_whatever_texts_of_others_hold(tmp_path, command):
    odd = "a\xa0b\x7f\x1b[1m"
    folder = write(tmp_path / "a\xa0b", [a_record(1), a_record(2, state="failed").replace(error=odd)])
    (found,) = json.loads(command(folder.path, "--no-figures", "--json")[1])
    assert found["study"] == "a\xa0b"


def test_json_has_the_choice_each_config_and_each_effect(tmp_path, command):
    folder = write(tmp_path / "s", [*search(12), a_record(13, state="failed", test_examples=2000)], **NOTEBOOK)
    (found,) = json.loads(command(folder.path, "--no-figures", "--json")[1], parse_constant=pytest.fail)
    assert found["trials"] == {"complete": 12, "failed": 1, "running": 0}
    assert found["choice"]["trials"] in [each["trials"] for each in found["configs"]]
    assert [each["low"] for each in found["configs"]] == [None] * 12
    assert [each["value"] for each in found["effects"]["gain"]["use_large_experts"]] == [False, True]
    assert found["failed"][0]["config"]["test_examples"] == 2000
