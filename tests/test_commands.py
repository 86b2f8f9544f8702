import subprocess
import sys

import pytest

from study.commands import COMMANDS


def moe_study(*words):
    return subprocess.run([sys.executable, "-m", "study.commands", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_prints_its_own_help(command):
    done = moe_study(command, "--help")
    assert done.returncode == 0
    assert "usage: python -m" in done.stdout


def test_wrong_usage_of_a_command_has_its_exit_code_and_names_the_option():
    done = moe_study("run", "--trials", "0")
    assert done.returncode == 2
    assert "--trials is '0'" in done.stderr


@pytest.mark.parametrize("words", [(), ("walk",)])
def test_no_command_or_an_unknown_one_is_wrong_usage(words):
    assert moe_study(*words).returncode == 2


def test_the_version_is_printed():
    assert moe_study("--version").stdout.startswith("moe-study ")


def test_the_completion_for_bash_has_commands_and_options_and_is_bash():
    script = moe_study("--print-completion", "bash").stdout
    for word in ("run", "analyze", "--train-examples", "--gpus-per-trial", "--max-bytes"):
        assert word in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert moe_study("--print-completion=bash").stdout == script
