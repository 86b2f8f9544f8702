"""Lines for people, printed so that no reader's whim ends a study."""

import io
import os
import sys


def tolerate() -> None:
    """Replace what the terminal's encoding lacks, such as ±, where it would be an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def say(line: str) -> None:
    """Print a line; where nobody reads any more, as after `| head`, go on in silence."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
