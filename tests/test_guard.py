"""What a command does around its work."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from study.files import write_text
from study.guard import guarded
from study.options import parse


def test_a_study_that_is_interrupted_before_its_first_trial_names_the_command_to_continue(capsys):
    def begin(options, command, stop):
        stop.resume = "python -m study.run --resume"
        raise KeyboardInterrupt

    def nothing(options, command, stop):
        raise KeyboardInterrupt

    printed = {}
    for work in (begin, nothing):
        assert guarded("study", parse, work, []) == 75
        printed[work] = capsys.readouterr().err
    assert printed == {
        begin: "study: interrupted; nothing was run; continue with: python -m study.run --resume\n",
        nothing: "study: interrupted; nothing was run\n",
    }


def test_an_error_of_the_system_without_a_file_is_one_sentence(capsys):
    def work(options, command, stop):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    assert guarded("study", parse, work, []) == 4
    assert capsys.readouterr().err == f"study: results: {os.strerror(errno.ESTALE)}\n"


def test_a_file_that_cannot_be_replaced_is_named_not_the_one_in_its_place(tmp_path, capsys):
    (tmp_path / "best.json").mkdir()
    assert guarded("study", parse, lambda *_: write_text(tmp_path / "best.json", ""), []) == 4
    assert f"study: {tmp_path / 'best.json'}: " in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--results", "r\udcff"], ["--results=r\udcff"]])
def test_a_word_that_is_no_text_is_refused(capsys, words):
    with pytest.raises(SystemExit) as ended:
        guarded("study", parse, lambda *_: 0, words)
    assert ended.value.code == 2
    assert r"--results is 'r\udcff', which is no text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "function"), [("study.analyze.__main__", "_analyze"), ("study.reproduce.__main__", "_run")]
)
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_command_that_has_nothing_to_resume_ends_on_a_signal_without_a_traceback(module, function, number):
    code = f"""
        import os, signal, sys, time, {module} as command
        command.{function} = lambda *_: (os.kill(os.getpid(), signal.{number}), time.sleep(9))
        sys.argv[1:] = ["results/x"]
        sys.exit(command.main())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("module", ["study.run", "study.ask", "study.confirm"])
def test_a_signal_while_modules_are_imported_is_received_once_they_are(module, number, tmp_path):
    command = [sys.executable, "-m", module, *([] if module == "study.run" else [str(tmp_path)])]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        while "pydantic_core" not in Path(f"/proc/{process.pid}/maps").read_text():
            time.sleep(0.001)
        process.send_signal(number)
        printed = process.communicate(timeout=60)
    assert (process.returncode, printed) == (75, ("", f"python -m {module}: interrupted; nothing was run\n"))
