"""What a command that can be interrupted does around its work: signals, errors in one sentence, exit codes."""

import gc
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from moe.cli import refuse
from moe.console import Exit, fail, tolerate_lost_output, warn
from study.folder import FolderError
from study.machine import ClusterError
from study.options import RayOptions
from study.search.stopping import Stop, signals

Options = TypeVar("Options", bound=RayOptions)


def guarded(
    program: str,
    parse: Callable[[list[str]], Options],
    work: Callable[[Options, str, Stop], Exit],
    arguments: Sequence[str] | None,
) -> Exit:
    """Parse a command line and do its work; the exit code, or that of the error that ended it.

    Args:
        work: takes the options, the whole command as it was typed, and what ends it early.
        arguments: None for those of this process.
    """
    tolerate_lost_output()
    words = sys.argv[1:] if arguments is None else list(arguments)
    _check_texts(program, words)
    options, stop = parse(words), Stop()
    if options.address == "local" and "ray" not in sys.modules:  # Ray reads it when it is imported
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # a Ray without other nodes: on the loopback alone
    try:
        with signals(stop):
            return work(options, shlex.join([*program.split(), *words]), stop)
    except (FolderError, ClusterError) as error:
        return fail(program, str(error))
    except OSError as error:
        if error.errno is None:  # not the system's
            raise
        return fail(program, f"{error.filename2 or error.filename or options.results}: {error.strerror}")
    except KeyboardInterrupt:
        again = f"; continue with: {stop.resume}" if stop.resume else ""  # the folder is there already
        warn(program, f"interrupted; nothing was run{again}")
        return Exit.INTERRUPTED
    finally:
        gc.freeze()  # the end of the process visits nothing


def _check_texts(program: str, words: Sequence[str]) -> None:
    """Refuse a word that is no text: Ray and the study's files could not hold the command."""
    for before, word in zip(["", *words], words, strict=False):
        name, has_value, value = word.partition("=")
        option, value = (name, value) if name.startswith("--") and has_value else (before, word)
        try:
            word.encode()
        except UnicodeEncodeError:
            what = option if option.startswith("--") else "an argument"
            refuse(program, f"{what} is {value!r}, which is no text in UTF-8; expected a name in UTF-8")
