"""The columns of the results table, and the documentation made from them."""

import subprocess
import sys
from pathlib import Path

from moe.config import Config
from moe.result import Score
from moe.schema import fields
from study.columns import COLUMNS, documentation

ROOT = Path(__file__).parent.parent


def test_the_documentation_of_the_results_is_what_the_command_prints():
    done = subprocess.run([sys.executable, "-m", "study.columns"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == documentation() + "\n"
    assert documentation() in (ROOT / "results" / "README.md").read_text("utf-8")


def test_every_field_of_a_config_and_every_score_is_a_column_with_its_description():
    for model in (Config, Score):
        for name, field in fields(model).items():
            assert COLUMNS[name].meaning == field.description


def test_a_committed_table_has_these_columns():
    header = (ROOT / "results" / "cifar-notebook" / "trials.csv").read_text("utf-8").split("\n")[0]
    assert header.split(",") == list(COLUMNS)
