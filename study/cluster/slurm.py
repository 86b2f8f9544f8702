"""A study under Slurm: the file for sbatch, and the commands for a study that is there.

#!/bin/bash
#SBATCH ...          what the job gets, from the options of the study
name=... nodes=...   this study
slurm.sh             the same for every study; symmetric.sh with --exclusive
"""

import getpass
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from moe.cli import refuse
from moe.console import Exit, emit
from study.cluster.fetch import pack, receive_archive
from study.cluster.options import job_options
from study.cluster.package import ROOT
from study.cluster.request import PROGRAM, Action, Request
from study.cluster.scheduler import call, continuation, hint, job_name, node_size, placeholder, show, written
from study.machine import ClusterError
from study.options import RESUME_COMMAND, Options, as_words

ENDING_S = 120  # before the time limit: for a study to save and end
JOB = "study-"  # begins the name of a job


def submit(request: Request) -> int:
    """Write the file for a study, or for its continuation, and with --run submit it."""
    name = job_name(request)
    run = job_options(request, name, space_folder=None).replace(address="local")
    for word in (*as_words(run), *(value.replace("\n", " ") for value in request.env.values())):
        if not word.isprintable():
            refuse(PROGRAM, f"an option is {word!r}, which has a control character; expected none in a file for sbatch")
    text = script(request, name, run)
    if not written(request, text, ["time"], f"mkdir -p {shlex.quote(run.results)} && sbatch FILE"):
        return Exit.DONE
    run.studies.mkdir(parents=True, exist_ok=True)  # or Slurm ends the job without a word: its log is there
    job = call("sbatch", "--parsable", content=text).strip().partition(";")[0]
    emit(f"Submitted as job {job}.")
    results = [] if run.results == str(Path("results").absolute()) else ["--results", run.results]
    hint(request, name, *results)
    return Exit.DONE


def script(request: Request, name: str, run: Options) -> str:
    """The file for sbatch."""
    size, results = node_size(run, request.nodes), run.results
    directives = {
        "job-name": f"{JOB}{name}",
        "output": f"{results.replace('%', '%%')}/{name}-%j.out",  # sbatch knows other words with % too
        "open-mode": "append",
        "nodes": request.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": size.cpus,
        "gpus-per-node": size.gpus,
        "mem": f"{size.mebibytes}M",
        "time": placeholder("time", request.time),
        "partition": request.partition,
        "account": request.account,
        "signal": f"B:USR1@{ENDING_S}",
        "requeue": True,
        "exclusive": request.exclusive,
    }
    values = {
        "name": name,
        "results": results,
        "python": sys.executable,
        "nodes": request.nodes,
        "cpus": size.cpus,
        "gpus": size.gpus,
        "memory": size.trial_bytes,
    }
    exported = {"PYTHONPATH": str(ROOT), RESUME_COMMAND: continuation(request, name, run), **request.env}
    body = Path(__file__).with_name("symmetric.sh" if request.exclusive else "slurm.sh").read_text("utf-8")
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH --{option}{_given(value)}" for option, value in directives.items() if value),
        *(f"export {variable}{_given(value)}" for variable, value in exported.items()),
        *(f"{variable}{_given(value)}" for variable, value in values.items()),
        f"study=({shlex.join(as_words(run))})",
        "",
        body,
    ]
    return "\n".join(lines)


def _given(value: object) -> str:
    return "" if value is True else f"={shlex.quote(str(value))}"


def status(request: Request) -> int:
    """Print the jobs of a study, or of all."""
    name = [f"--name={JOB}{request.name}"] if request.name else []
    lines = call("squeue", f"--user={getpass.getuser()}", "--noheader", "--format=%i|%j|%T|%M|%R", *name).splitlines()
    jobs = [line.split("|", 4) for line in lines if line.count("|") >= 4]
    studies = [(job, study.removeprefix(JOB), *rest) for job, study, *rest in jobs if study.startswith(JOB)]
    for job, study, state, time, where in studies:
        emit(f"{study} is {state.lower()} as job {job} for {time}: {where}")
    if not studies:
        which = f"study {request.name}" if request.name else "a study"
        emit(f"Slurm has no job of {which}; those that ended are gone.")
    return Exit.DONE


def logs(request: Request) -> int:
    """Print what the study's last job has printed, and with --follow what it still prints, until Ctrl-C."""
    name = re.compile(rf"{re.escape(request.name or '')}-\d+\.out")
    found = [path for path in request.results.glob("*.out") if name.fullmatch(path.name)]
    if not found:
        advice = "expected the results folder of its job, by --results"
        raise ClusterError(f"{request.results} has no log of study {request.name}: it has not started yet, or {advice}")
    last = max(found, key=lambda path: path.stat().st_mtime)
    show("tail", "-n", "+1", *(["-F"] if request.follow else []), "--", str(last))
    return Exit.DONE


def stop(request: Request) -> int:
    """Let a study save and end; one that waits is cancelled."""
    job = (f"--user={getpass.getuser()}", f"--name={JOB}{request.name}")
    if not call("squeue", "--noheader", "--format=%i", *job).strip():
        listed = request.command("status", request.name or "")
        raise ClusterError(f"Slurm has no job of study {request.name}; see: {listed}")
    call("scancel", "--state=PENDING", *job)
    call("scancel", "--batch", "--signal=TERM", *job)
    emit(f"Stopping study {request.name}: it saves and ends.")
    return Exit.DONE


def fetch(request: Request) -> int:
    """Copy a study's folder from the shared disk."""
    assert request.source
    assert request.name
    return receive_archive(pack(Path(request.source) / request.name), request.results, request.name)


ACTIONS: dict[Action, Callable[[Request], int]] = {
    "submit": submit, "status": status, "logs": logs, "stop": stop, "fetch": fetch, "resume": submit,
}  # fmt: skip
