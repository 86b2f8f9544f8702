"""Console output: closed pipes, full disks, tables, durations."""

import os
import subprocess
import sys

import pytest

from moe import console
from moe.console import Exit, duration, fail, markdown, output_width, printable, table

EMIT = "from moe.console import emit; emit('a'); emit('b', end=''); print('after')"


def python(code, stdout=subprocess.PIPE, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_each_text_is_printed_at_once():
    done = python(EMIT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\nbafter\n", "")


def test_a_closed_pipe_is_silent():
    reading, writing = os.pipe()
    os.close(reading)
    done = python(EMIT, writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_is_one_sentence_and_exit_code_4():
    with open("/dev/full", "w") as full:
        done = python(EMIT, full)
    assert done.returncode == Exit.ENVIRONMENT
    assert len(done.stderr.splitlines()) == 1
    assert "No space left on device" in done.stderr


def test_what_the_encoding_lacks_is_replaced():
    done = python("from moe.console import *; tolerate_encoding(); emit('± 1')", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "? 1\n")


def test_what_a_full_pipe_cannot_take_is_dropped_where_lost_output_is_tolerated():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    done = python("from moe.console import *; tolerate_lost_output(); print('x' * 1_000_000, flush=True)", writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert {*pipe.read()} == {*b"x"}
    assert (done.returncode, done.stderr) == (0, "")


def test_a_failure_is_named_on_stderr(capsys):
    assert fail("python -m moe", "no data") == 4
    assert capsys.readouterr() == ("", "python -m moe: no data\n")


def test_a_failure_without_a_reader_is_silent():
    done = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c \'from moe.console import *; exit(fail("p", "s"))\' 2>/dev/full'],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (4, b"", b"")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (99.4, "99 s"), (99.5, "2 min"), (5969, "99 min"), (5970, "1.7 h")]
)
def test_a_duration_is_rounded_to_what_matters(seconds, words):
    assert duration(seconds) == words


class TestTable:
    def test_numbers_are_aligned_to_the_right(self):
        assert table(("name", "count"), [("a", "1"), ("long name", "1,000")]) == (
            "name       count\na              1\nlong name  1,000"
        )

    def test_two_columns_may_stand_left(self):
        assert (
            table(("a", "b", "c"), [("1", "two", "3"), ("1", "2", "33")], left=2)
            == "a  b     c\n1  two   3\n1  2    33"
        )

    def test_markup_and_emoji_in_a_cell_are_text(self):
        assert table(("a",), [("[red]x[/red] :smile:",)]) == "a\n[red]x[/red] :smile:"

    def test_no_line_is_wider_than_the_terminal(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "20")
        lines = table(("name", "count"), [("x" * 50, "1,000")]).splitlines()
        assert max(map(len, lines)) <= 20
        assert sum(line.count("x") for line in lines) == 50

    def test_a_pipe_has_no_width(self, monkeypatch):
        monkeypatch.delenv("COLUMNS", raising=False)
        done = python("from moe.console import *; print(output_width())")
        assert int(done.stdout) >= 1000
        assert output_width() > 0
        code = "from moe.console import *; print(table(('a', 'b'), [('x' * 300, 'y' * 300)]))"
        assert python(code).stdout.splitlines()[1] == "x" * 300 + "  " + "y" * 300


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\tb\n", "a\tb\n"), ("é ± 表", "é ± 表"), ("\x1b[1;31mred\x1b[0m", "red"), ("\x1b[2J\x07\r", r"\x1b[2J\x07\r"),
     ("\x9b\u202e\u2028", r"\x9b\u202e\u2028"), ("\udcff", r"\udcff")],
)  # fmt: skip
def test_control_characters_are_shown_as_escapes_and_colours_not_at_all(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [("__version__", r"\_\_version\_\_"), ("train_examples", "train_examples"), ("~~x~~ *y*", r"\~\~x\~\~ \*y\*")],
)
def test_markdown_shows_what_others_wrote_and_does_nothing_else(text, shown):
    assert markdown(text) == shown


def test_long_lines_are_wrapped_at_words_in_a_terminal_only(monkeypatch):
    text = f"{'a-word ' * 20}\n  short"
    assert console.wrapped(text) == text
    monkeypatch.setattr(console, "interactive", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    lines = console.wrapped(text).splitlines()
    assert max(map(len, lines)) <= 30
    assert {word for line in lines for word in line.split()} == {"a-word", "short"}
