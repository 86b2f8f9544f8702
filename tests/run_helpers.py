"""`python -m study.run` in a process of its own, on the built-in shapes, and the processes below it."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

SPACE = "epochs: [1, 2]\ntrain_examples: [50, 60]\ntest_examples: 50\n"
ONE_POINT = "epochs: 1\ntrain_examples: 50\ntest_examples: 50\n"
SMALL = ("--dataset", "shapes", "--protocol", "notebook")
ONE_AT_A_TIME = ("--concurrency", "1", "--cpus-per-trial", "1")


def furnished(folder):
    """A working folder with spaces in it; results go into it."""
    for name, text in (("four", SPACE), ("one", ONE_POINT)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


def start(home, *arguments, **environment):
    """A study that is running, in a process group of its own as a terminal would have it."""
    if not {"--refine", "--resume"} & set(arguments):
        arguments += ("--refine", "0")
    return launch(home, "study.run", *arguments, **environment)


def launch(home, module, *arguments, **environment):
    """A command in a process group of its own; None takes a variable away."""
    environment = {**os.environ, "MOE_STORE": str(home / "stages"), **environment}
    environment = {name: value for name, value in environment.items() if value is not None}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def call(home, *arguments, **environment):
    """The exit code and what was printed."""
    with start(home, *arguments, **environment) as process:
        printed = process.communicate(timeout=200)[0]
    return process.returncode, printed


def until(process, text):
    """Read what a study prints up to a line that holds this; the lines so far."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError("".join(lines))


def records(home, name):
    return [json.loads(path.read_text()) for path in sorted((home / "results" / name / "trials").glob("*.json"))]


def children(pid):
    """The processes below one, as (pid, command line)."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid:
                found += [(int(path.name), (path / "cmdline").read_text(errors="replace")), *children(int(path.name))]
    return found


def below(pid):
    """The processes of a driver that hold a resource: its Ray and its workers, without Ray's two agents."""
    return [child for child, command in children(pid) if "Agent" not in command]


def gone(pids, within_s=20.0):
    """Whether all of these processes end in time."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() and _alive(pid) for pid in pids):
            return True
        time.sleep(0.2)
    return False


def _alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False
