"""Faults of the output: closed, gone, full, in a poor encoding. A study goes on; what is shown is printable."""

import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from moe.console import printable
from tests.faults.table import Fault

#: what a study does with its output; `done` shows that it came to its end
WORK = """
import sys
from types import SimpleNamespace
from moe.console import emit, fail, interactive, tolerate_lost_output, warn
tolerate_lost_output()
with open("file", "w") as file:
    assert file.fileno() > 2
emit("± a line \\x1b[2J")
if interactive():
    from study.search.progress import showing
    progress = SimpleNamespace(terminal=True, panel=lambda: "panel", emit=emit)
    with showing(progress):
        progress.emit("± a line \\x1b[2J")
warn("study", "± a sentence")
sys.stdout.flush()
print("more than a buffer", "x" * 100_000, flush=True)
open("done", "w").write(str(interactive()))
sys.exit(fail("study", "the code stays"))
"""


def shell(redirection: str, folder: Path, **environment: str) -> str:
    """What a study prints under such a redirection; it comes to its end with its own exit code."""
    command = ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, WORK]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": root, **environment}, capture_output=True, text=True
    )
    assert (folder / "done").exists(), done.stderr
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def ascii_only(folder: Path) -> None:
    """The terminal's encoding lacks a character."""
    assert "? a line" in shell("", folder, PYTHONIOENCODING="ascii")


def terminal(term: str, lost: bool, folder: Path) -> bytes:
    """What a study prints to a terminal of that kind, which may be gone before it starts."""
    ours, theirs = pty.openpty()
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", WORK],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root, "TERM": term},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    os.close(theirs)
    printed = b""
    if lost:
        os.close(ours)
    else:
        with suppress(OSError):  # EIO at its end
            while part := os.read(ours, 65536):
                printed += part
        os.close(ours)
    assert process.wait(60) == 4
    assert (folder / "done").exists()
    return printed


def dumb(folder: Path) -> None:
    """A terminal that can show lines only."""
    assert b"panel" not in terminal("dumb", False, folder)


def controlled(folder: Path) -> None:
    """A line above a panel has control characters."""
    printed = terminal("xterm", False, folder)
    assert b"panel" in printed
    assert b"\x1b[2J" not in printed


def escaped(text: str, shown: str, folder: Path) -> None:
    """A text of others is shown."""
    assert printable(text) == shown


GOES_ON = "it goes on, and its exit code stays"
REDIRECTIONS = {
    "stdout is closed": "1>&-",
    "stderr is closed": "2>&-",
    "all three are closed": "0<&- 1>&- 2>&-",
    "stdout is on a full disk": ">/dev/full",
    "stderr is on a full disk": "2>/dev/full",
    "nobody reads stdout": "| true; exit ${PIPESTATUS[0]}",
    "both are on a full disk": ">/dev/full 2>&1",
    "stdout can only be read": "1</dev/null",
}
TEXTS = {
    "\x1b[2J": r"\x1b[2J",
    "\x9b31m": r"\x9b31m",
    "\u202etxt": r"\u202etxt",
    "a\rb": r"a\rb",
    "\x1b]0;x\x07": r"\x1b]0;x\x07",
}
FAULTS = (
    *(Fault("G29", what, "moe.console", GOES_ON, partial(shell, how)) for what, how in REDIRECTIONS.items()),
    Fault("G29", "the terminal is gone", "moe.console", GOES_ON, partial(terminal, "xterm", True)),
    Fault("G29", "an encoding without ±", "moe.console", GOES_ON, ascii_only),
    Fault("G30", "a dumb terminal", "moe.console", "lines, no panel", dumb),
    Fault("D20", "control characters on a terminal", "moe.console", "escapes", controlled),
    *(
        Fault("D20", repr(text), "moe.console", "escapes", partial(escaped, text, shown))
        for text, shown in TEXTS.items()
    ),
)
