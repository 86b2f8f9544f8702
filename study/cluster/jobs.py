"""The actions of `python -m study.submit` on a Ray cluster; each takes a request and returns the exit code."""

import contextlib
import io
import itertools
import re
import shlex
import time
import uuid
from collections.abc import Callable
from functools import partial

from moe.cli import refuse
from moe.console import Exit, duration, emit, warn
from study.cluster.client import PYTHON, STOP_S, Job, Jobs, TakenError, Texts
from study.cluster.fetch import receive, receive_remote
from study.cluster.logs import Follower
from study.cluster.options import job_options, new_name, space_file
from study.cluster.package import zipped
from study.cluster.request import PROGRAM, Action, Request
from study.machine import ClusterError
from study.options import RESUME_COMMAND, Options, as_words, parse

Show = Callable[[str], None]

_show = partial(emit, end="")


def submit(request: Request, jobs: Jobs) -> int:
    """Submit a study, or its continuation, and follow it; with --dry-run, a job that checks the nodes."""
    earlier = jobs.studies()
    request, before = _resumed(request, earlier) if request.action == "resume" else (request, None)
    name = request.name or new_name(request)
    for job in earlier:
        if job.study == name and not job.over:
            raise ClusterError(f"study {name} is running as {job.id}; expected another --name, or stop it first")
    run = job_options(request, name, before)
    command = ["study.run", *as_words(run)]
    files = zipped(space_file(request))
    if request.dry_run:
        job, _ = _run(jobs, f"check-{uuid.uuid4().hex}", command, files, request.env, _show)
        emit("No study was submitted.")
        return job.code
    taken = {job.id for job in earlier}
    job_id = next(free for number in itertools.count(1) if (free := f"study-{name}-{number}") not in taken)
    env = {**request.env, RESUME_COMMAND: request.command("resume", name)}
    try:
        jobs.submit(job_id, command, files, env, {"study": name, "results": run.results})
    except TakenError:
        raise ClusterError(f"another command has just submitted study {name}; nothing was submitted") from None
    except BaseException:
        warn(PROGRAM, f"{job_id} may have been submitted; see: {request.command('status', name)}")
        raise
    emit(f"Submitted as {job_id}.")
    if request.detach:
        emit(_commands(request, name))
        return Exit.DONE
    return _follow(request, jobs, job_id, name)


def _resumed(request: Request, earlier: list[Job]) -> tuple[Request, Options | None]:
    """The request with the name and the --env of the study's last job, and the options of that job, if known."""
    last = _pick(earlier, request) if _of(earlier, request.name) or not request.name else None
    before = _options(last) if last else None
    name, env = (last.study, last.env) if last else (request.name, {})
    if not (before or request.results_given):
        missing = f"{request.address} does not have the options of study {name}; expected its results folder there"
        refuse(PROGRAM, f"{missing}: {PROGRAM} resume {name} ... -- --results DIR")
    return request.replace(name=name, env={**env, **request.env}), before


def _options(job: Job) -> Options | None:
    """The options of a study's job; None where another version submitted it, which had others."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return parse(shlex.split(job.entrypoint)[len(PYTHON) + 1 :])  # after study.run
    except (SystemExit, ValueError):
        return None


def _run(jobs: Jobs, job_id: str, command: list[str], files: bytes, env: Texts, show: Show) -> tuple[Job, str]:
    """Run a job that is no study to its end, or stop it where that is interrupted; the ended job and its log."""
    try:
        jobs.submit(job_id, command, files, env)
        follower = Follower(jobs, job_id, show)
        return follower.follow(), follower.log
    except BaseException:
        with contextlib.suppress(ClusterError):
            jobs.stop(job_id)
        raise


def status(request: Request, jobs: Jobs) -> int:
    """List the studies of the cluster, or print how one of them is."""
    found = jobs.studies()
    if not (found or request.name):
        emit(_none(request))
    for name in [request.name] if request.name else dict.fromkeys(job.study for job in found):
        emit(_described(_pick(found, request.replace(name=name)), jobs))
    return Exit.DONE


def logs(request: Request, jobs: Jobs) -> int:
    """Print what a study has printed, and with --follow what it still prints."""
    job = _pick(jobs.studies(), request)
    if request.follow:
        return _follow(request, jobs, job.id, job.study)
    _show(jobs.log(job.id))
    return Exit.DONE


def stop(request: Request, jobs: Jobs) -> int:
    """Let a study save and end, and wait for it."""
    found = jobs.studies()
    running = [job for job in found if not job.over]
    if not request.name and len(running) != 1:
        known = ", ".join(job.study for job in running) or "none"
        refuse(PROGRAM, f"NAME is missing; expected one of the running studies of {request.address}: {known}")
    job = _pick(found, request) if request.name else running[0]
    log = jobs.log(job.id)
    if job.over:
        return _report_end(request, job, log)
    jobs.stop(job.id)
    emit(f"Stopping study {job.study}: it saves and ends, or is killed after {STOP_S} s.")
    return _follow(request, jobs, job.id, job.study, log=log, stopping=True)


def fetch(request: Request, jobs: Jobs) -> int:
    """Copy a study's records, tables and figures here."""
    name, source = request.name, request.source
    if not (name and source):
        job = _pick(jobs.studies(), request)
        name, source = job.study, source or job.results
    if "://" in source:
        return receive_remote(source, request.results, name)
    command = ["study.cluster.fetch", source, name]
    job, log = _run(jobs, f"fetch-{uuid.uuid4().hex}", command, zipped(), {}, lambda piece: None)
    failure = None if job.status == "SUCCEEDED" else job.message or f"{job.id} ended as {job.status}"
    return receive(log, failure, request.results, name)


ACTIONS: dict[Action, Callable[[Request, Jobs], int]] = {
    "submit": submit, "status": status, "logs": logs, "stop": stop, "fetch": fetch, "resume": submit,
}  # fmt: skip


def _of(found: list[Job], name: str | None) -> list[Job]:
    """The jobs of a study, or of all; without those that study.run refused, if there are others."""
    its = [job for job in found if name in (None, job.study)]
    return [job for job in its if job.code != Exit.USAGE] or its


def _pick(found: list[Job], request: Request) -> Job:
    """The last job of the study that is named, or of any; an unknown one exits with code 2."""
    its = _of(found, request.name)
    if not its:
        known = ", ".join(dict.fromkeys(job.study for job in found))
        named = f"NAME is {request.name}; expected a study of {request.address}: {known}"
        refuse(PROGRAM, named if found else _none(request))
    running = [job for job in its if request.name and not job.over]  # a later one may have been refused beside it
    return (running or its)[-1]


def _none(request: Request) -> str:
    before_restart = "fetch NAME --from DIR, or resume NAME -- --results DIR"
    return f"{request.address} has no study; for one from before a restart: {before_restart}"


def _follow(request: Request, jobs: Jobs, job_id: str, name: str, *, log: str = "", stopping: bool = False) -> int:
    """Print what a study prints after this log until it ends, or until Ctrl-C; the exit code."""
    follower = Follower(jobs, job_id, _show, log)
    try:
        job = follower.follow()
    except KeyboardInterrupt:
        state = "is stopping" if stopping else "is still running"
        if follower.broken:
            state = f"last answered {duration(time.monotonic() - follower.answered)} ago"
        emit(f"\nStudy {name} {state}.\n{_commands(request, name, stopping)}")
        return Exit.INTERRUPTED
    return _report_end(request, job, follower.log)


def _commands(request: Request, name: str, stopping: bool = False) -> str:
    """The commands for a study that is running."""
    stop = "" if stopping else f"Stop it:   {request.command('stop', name)}\n"
    return f"Come back: {request.command('logs', name, '--follow')}\n{stop}Fetch it:  {request.command('fetch', name)}"


def _report_end(request: Request, job: Job, log: str) -> int:
    """Print how a study ended and what comes next; its exit code."""
    emit(f"Study {job.study} {_outcome(job)}.")
    done, trials = _progress(log) or (0, 1)
    code = Exit.DONE if job.status == "STOPPED" and done >= trials else job.code
    if code in (Exit.DONE, Exit.TOO_MANY_FAILED, Exit.INTERRUPTED):
        emit(f"Fetch it:  {request.command('fetch', job.study)}")
    if code in (Exit.TOO_MANY_FAILED, Exit.INTERRUPTED) or (job.driver_exit_code is None and code != Exit.DONE):
        emit(f"Continue:  {request.command('resume', job.study)}")
    return code


def _outcome(job: Job) -> str:
    if not job.over:
        return "is running"
    if job.status == "STOPPED":
        return "was stopped"
    if job.driver_exit_code is None and job.code != Exit.DONE:
        return f"was lost: {job.message}"
    signal = -(job.driver_exit_code or 0)
    return f"was killed by signal {signal}" if signal > 0 else f"ended with exit code {job.code}"


def _described(job: Job, jobs: Jobs) -> str:
    """A study in one line."""
    progress = _progress(jobs.log(job.id))
    trials = f"{progress[0]} of {progress[1]} trials done" if progress else "no trial done yet"
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started))
    return f"{job.study} {_outcome(job)}; {trials}; {job.id} since {began}; results in {job.results}/{job.study}"


def _progress(log: str) -> tuple[int, int] | None:
    """How many trials were complete, and how many are to be, when a study last printed it."""
    found = re.findall(r"(?<!\d)(\d{1,7}) of (\d{1,7}) trials", log)
    return (int(found[-1][0]), int(found[-1][1])) if found else None
