"""Console output that survives a closed pipe and a lost terminal, tables, durations, the exit codes of all commands."""

import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_EMPHASIS = re.compile(r"(?<![^\W_])_+|_+(?![^\W_])")  # not within a word
_CONTROL = re.compile(r"[^\n\t -~]")  # and what is not ASCII, most of which is printable
PIPE_WIDTH = 10_000  # columns, where the output is no terminal


class Exit(IntEnum):
    """The exit codes of all commands."""

    DONE = 0
    BUG = 1  # Python's own, of an exception that nobody expected
    USAGE = 2  # argparse's own, of an invalid option
    TOO_MANY_FAILED = 3  # trials
    ENVIRONMENT = 4  # data, files or the machine
    DIFFERS = 5  # something is not what it was
    INTERRUPTED = 75  # and can be resumed
    CTRL_C = 130  # the shell's own, of a command that has nothing to resume


def printable(text: str) -> str:
    """A text without colours, and with every other control character, but tabs and ends of lines, as an escape."""
    return _CONTROL.sub(lambda found: _escaped(found[0]), _COLOUR.sub("", text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()


def markdown(text: str) -> str:
    """A text of others, such as an error or a path, as one line of Markdown that shows it and does nothing else."""
    line = printable(" ".join(text.split()))
    line = _EMPHASIS.sub(lambda found: r"\_" * len(found[0]), re.sub(r"[\\`*\[\]|]", r"\\\g<0>", line))
    line = line.replace("~", r"\~") if line.count("~") > 1 else line  # one alone strikes nothing out
    return line.replace("&", "&amp;").replace("<", "&lt;")


def emit(text: str, end: str = "\n") -> None:
    """Print a text at once; where nobody reads, as after `| head`, continue silently.

    Raises:
        SystemExit: the output cannot be written, as on a full disk; the code is `Exit.ENVIRONMENT`.
    """
    try:
        print(printable(text), end=end, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again as it ends
        if not isinstance(error, BrokenPipeError):
            warn("the output", f"it cannot be written: {error.strerror}")
            raise SystemExit(Exit.ENVIRONMENT) from None


def warn(program: str, sentence: str) -> None:
    """Print a sentence to stderr, after the name of the program."""
    if sys.stderr is not None:  # as a daemon may have it; print would take stdout
        with suppress(OSError):
            print(printable(f"{program}: {sentence}"), file=sys.stderr, flush=True)


def fail(program: str, sentence: str) -> Exit:
    """Print to stderr why a command cannot go on; the exit code."""
    warn(program, sentence)
    return Exit.ENVIRONMENT


def tolerate_encoding() -> None:
    """Replace what the terminal's encoding lacks, such as ±, where it would be an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


class _Silent(io.FileIO):
    """A file descriptor to which every write succeeds: what cannot be written is dropped."""

    def write(self, data: Any) -> int:
        """Write what can be written."""
        with suppress(OSError):
            return super().write(data) or len(data)  # None where a pipe is full and not waited for
        return len(data)


def tolerate_lost_output() -> None:
    """Make no failure of stdout or stderr an error: closed, a terminal that is gone, a full disk, a poor encoding.

    For commands whose work is worth more than what they print, such as a study.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # else the next file that is opened would be taken for the output
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = _silent(sys.stdout, sys.__stdout__)
    sys.stderr = _silent(sys.stderr, sys.__stderr__)


def _silent(stream: TextIO | None, own: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w")
    if stream is not own or not isinstance(stream, io.TextIOWrapper):  # replaced, by a test say
        return stream
    with suppress(OSError):
        stream.flush()
    writer = io.BufferedWriter(_Silent(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(writer, encoding=stream.encoding, errors="replace", line_buffering=True)


def interactive() -> bool:
    """Whether stdout is a terminal that can show more than lines."""
    return sys.stdout is not None and sys.stdout.isatty() and Console(file=sys.stdout).is_interactive


def wrapped(text: str) -> str:
    """A text whose lines a terminal does not break within words; no text with a command, which is copied."""
    if not interactive():
        return text
    width = output_width()
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )


def duration(seconds: float) -> str:
    """A time span in words, rounded to what matters."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def output_width() -> int:
    """COLUMNS where that is set, else those of the terminal; in a pipe or a file, lines are not wrapped."""
    return shutil.get_terminal_size(fallback=(PIPE_WIDTH, 0)).columns


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1, width: int | None = None) -> str:
    """Rows under their headings, in aligned columns.

    Args:
        left: how many columns are aligned to the left; the others, such as numbers, to the right.
        width: characters a line may have before a cell is wrapped; by default those of the output.
    """
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, heading in enumerate(headings):
        grid.add_column(heading, justify="left" if place < left else "right", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    console = Console(
        file=io.StringIO(), width=width or output_width(), color_system=None, markup=False, emoji=False, highlight=False
    )
    with console.capture() as shown:
        console.print(grid)
    return "\n".join(line.rstrip() for line in shown.get().splitlines())
