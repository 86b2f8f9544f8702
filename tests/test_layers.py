"""The order of the rooms: who may import whom, and who may not."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RAY = ("study/search/", "study/cluster/")  # the two rooms that may use it


def imported(path):
    """The top-level packages and the modules that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def files(package):
    return sorted((ROOT / package).rglob("*.py"))


def test_the_pipeline_knows_nothing_of_the_study_ray_or_optuna():
    for path in files("moe"):
        used = {name.split(".")[0] for name in imported(path)}
        assert not used & {"study", "ray", "optuna"}, path


def test_ray_is_imported_only_where_trials_are_run_and_jobs_submitted():
    using = [path for path in files("study") if any(name.split(".")[0] == "ray" for name in imported(path))]
    assert using
    assert all(str(path.relative_to(ROOT)).startswith(RAY) for path in using)


@pytest.mark.parametrize(
    "module",
    [
        "moe",
        "moe.config",
        "moe.cli",
        "study.run",
        "study.ask",
        "study.space",
        "study.search.trial",
        "study.search.reference",
        "study.confirm.__main__",
    ],
)
def test_what_checks_input_loads_neither_torch_nor_ray_nor_optuna(module):
    code = f"import sys, {module}; print([name for name in ('torch', 'ray', 'optuna') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_three_lines_are_enough_for_one_mixture():
    import moe

    assert callable(moe.run)
    assert moe.Config().epochs == 1
    with pytest.raises(AttributeError, match="moe has no 'train'; it has Config, Result, Store, run"):
        moe.train  # noqa: B018


def test_nothing_is_ever_loaded_as_a_pickle_of_weights():
    for path in [*files("moe"), *files("study")]:
        assert "weights_only=False" not in path.read_text(), path


def test_every_module_is_short():
    for path in [*files("moe"), *files("study")]:
        assert len(path.read_text().splitlines()) <= 300, path


def test_every_function_is_short():
    for path in [*files("moe"), *files("study")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 45, f"{path}: {node.name}"


def test_the_card_of_the_top_level_is_kept():
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=False, cwd=ROOT).stdout.split(
        "\n"
    )
    top = {line.split("/")[0] for line in tracked if line}
    assert {name for name in top if not name.startswith(".")} <= {
        "study", "moe", "tests", "results", "pyproject.toml", "README.md", "LICENSE",
    }  # fmt: skip
