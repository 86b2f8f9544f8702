"""A command with many lists of words, in one process in which some modules cannot be imported."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

#: calls the command with each list of words, and prints what it comes to and the CPU time since the one before
EACH = """
import contextlib, importlib, io, json, sys, time
module, *calls = sys.argv[1:]
began = 0.0  # the first call has the imports in its time
for words in calls:
    out, err = io.StringIO(), io.StringIO()
    sys.argv = [module, *json.loads(words)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = importlib.import_module(module).main()
        except SystemExit as end:
            code = end.code
    ended = time.process_time()
    print(json.dumps([code, out.getvalue(), err.getvalue(), ended - began]))
    began = ended
"""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str
    seconds: float  # of CPU time, which other processes do not lengthen


def without(folder: Path, *modules: str) -> dict[str, str]:
    """A path on which these modules end the program that imports them."""
    for name in modules:
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    return {"PYTHONPATH": f"{folder}:{Path.cwd()}"}


def outcomes(
    module: str, calls: Iterable[tuple[str, ...]], environment: dict[str, str]
) -> dict[tuple[str, ...], Outcome]:
    """What a command comes to, by its words."""
    calls = list(calls)
    command = [sys.executable, "-c", EACH, module, *map(json.dumps, calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return {words: Outcome(*json.loads(line)) for words, line in zip(calls, done.stdout.splitlines(), strict=True)}
