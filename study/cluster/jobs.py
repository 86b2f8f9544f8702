"""The actions of `python -m study.submit` on a Ray cluster; each takes a request and returns the exit code."""

import contextlib
import io
import itertools
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from moe.cli import refuse
from moe.console import Exit, duration, emit, warn
from study import machine
from study.cluster import fetch as fetching
from study.cluster import package
from study.cluster.client import STOP_S, Job, Jobs, TakenError, connect
from study.cluster.logs import Follower
from study.cluster.options import PROGRAM, Action, Request, job_words, space_file
from study.machine import ClusterError
from study.options import RESUME_COMMAND, Options, parse, space_of


def submit(request: Request) -> int:
    """Submit a study, or its continuation, and follow it; with --dry-run, a job that checks the nodes."""
    jobs = connect(request.address, request.without_authentication)
    earlier = jobs.studies()
    request, before = _resumed(request, earlier) if request.action == "resume" else (request, None)
    for job in earlier:
        if job.study == request.name and not job.over:
            raise ClusterError(f"study {job.study} is running as {job.id}; expected another --name, or stop it first")
    assert request.run
    with package.copied(space_file(request.run)) as folder:
        if request.dry_run:
            words = job_words(request, request.name or _new_names(request)[0], before)
            code = _run(jobs, "check", "study.run", words, folder, request.env, _show).code
            emit("No study was submitted.")
            return code
        job_id, name = _submit_free(request, jobs, folder, before)
    if request.detach:
        emit(f"Submitted as {job_id}.\n{_commands(request, name)}")
        return Exit.DONE
    return _follow(request, jobs, job_id, name, f"Submitted as {job_id}.")


def _resumed(request: Request, earlier: list[Job]) -> tuple[Request, Options | None]:
    """The request with the name and the --env of the study's last job, and the options of that job, if known."""
    last = next(reversed(_of(earlier, request.name)), None)
    if not (last or request.name):
        refuse(PROGRAM, f"{request.address} has no study; expected the NAME of the one to resume")
    name = last.study if last else request.name
    before = _parse(last.words) if last else None
    if not (before or request.results_given):
        refuse(
            PROGRAM,
            f"{request.address} does not have the options of study {name}; expected its results folder there: "
            f"{PROGRAM} resume {name} ... -- --results DIR",
        )
    return request.replace(name=name, env={**(last.env if last else {}), **request.env}), before


def _parse(words: tuple[str, ...]) -> Options | None:
    """The options of a job; None where another version submitted it, which had others."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return parse(list(words)) if words else None
    except SystemExit:
        return None


def _run(
    jobs: Jobs, kind: str, module: str, words: list[str], folder: Path, env: dict[str, str], show: Callable[[str], None]
) -> Job:
    """Run a job that is no study to its end; it is stopped where that is interrupted."""
    job_id = f"{kind}-{uuid.uuid4().hex}"
    try:
        jobs.submit(job_id, [module, *words], folder, env)
        return Follower(jobs, job_id, show).follow()
    except BaseException:
        with contextlib.suppress(ClusterError):
            jobs.stop(job_id)
        raise


def _submit_free(request: Request, jobs: Jobs, folder: Path, before: Options | None) -> tuple[str, str]:
    """Submit under the first name that is free; the id of the job and the name."""
    taken = jobs.ids()
    for name in [request.name] if request.name else _new_names(request):
        job_id = next(free for number in itertools.count(1) if (free := f"study-{name}-{number}") not in taken)
        words = job_words(request, name, before)
        results = words[words.index("--results") + 1]
        env = {**request.env, RESUME_COMMAND: request.command("resume", name)}
        try:
            metadata = {"study": name, "results": results, "commit": machine.commit() or ""}
            jobs.submit(job_id, ["study.run", *words], folder, env, metadata)
        except TakenError:
            continue
        except BaseException:
            warn(PROGRAM, f"{job_id} may have been submitted; see: {request.command('status', name)}")
            raise
        return job_id, name
    raise ClusterError(f"another command has just submitted study {request.name}; nothing was submitted")


def _new_names(request: Request) -> list[str]:
    """Names for a study without one: its space and this moment, and others for one submitted at the same moment."""
    assert request.run
    space = space_of(request.run.space or "notebook", request.run.protocol or "holdout").name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", space).lstrip("._-")[:50] or "study"
    first = f"{plain}-{time.strftime('%Y%m%d-%H%M%S')}"
    return [first, *(f"{first}-{number}" for number in range(2, 10))]


def status(request: Request) -> int:
    """List the studies of the cluster, or print how one of them is."""
    jobs = connect(request.address, request.without_authentication)
    found = jobs.studies()
    if not (found or request.name):
        emit(f"{request.address} has no study; one from before a restart continues with resume NAME -- --results DIR")
    for name in [request.name] if request.name else dict.fromkeys(job.study for job in found):
        emit(_described(_pick(found, request.replace(name=name)), jobs))
    return Exit.DONE


def logs(request: Request) -> int:
    """Print what a study has printed, and with --follow what it still prints."""
    jobs = connect(request.address, request.without_authentication)
    job = _pick(jobs.studies(), request)
    if request.follow:
        return _follow(request, jobs, job.id, job.study)
    _show(jobs.log(job.id))
    return Exit.DONE


def stop(request: Request) -> int:
    """Let a study save and end, and wait for it."""
    jobs = connect(request.address, request.without_authentication)
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
    opening = f"Stopping study {job.study}: it saves and ends, or is killed after {STOP_S} s."
    return _follow(request, jobs, job.id, job.study, opening, printed=len(log), stopping=True)


def fetch(request: Request) -> int:
    """Copy a study's records, tables and figures here."""
    jobs = connect(request.address, request.without_authentication)
    name, source = request.name, request.source and str(request.source.absolute())
    if not (name and source):
        job = _pick(jobs.studies(), request, "; one from before a restart comes with fetch NAME --from DIR")
        name, source = job.study, source or job.results
    pieces: list[str] = []
    with package.copied() as folder:
        job = _run(jobs, "fetch", "study.cluster.fetch", [source, name], folder, {}, pieces.append)
    log = "".join(pieces)
    if job.status != "SUCCEEDED":
        lines = [line for line in log.splitlines() if line.strip()]
        raise ClusterError(" ".join((lines or [job.message])[-1].split())[:300])
    count = fetching.unpack(log, request.results, name)
    emit(f"Study {name}: {count} files in {request.results / name}")
    return Exit.DONE


ACTIONS: dict[Action, Callable[[Request], int]] = {
    "submit": submit, "status": status, "logs": logs, "stop": stop, "fetch": fetch, "resume": submit,
}  # fmt: skip


def _of(found: list[Job], name: str | None) -> list[Job]:
    """The jobs of a study, or of all; without those that study.run refused, if there are others."""
    its = [job for job in found if name in (None, job.study)]
    return [job for job in its if job.code != Exit.USAGE] or its


def _pick(found: list[Job], request: Request, hint: str = "") -> Job:
    """The last job of the study that is named, or of any; an unknown one exits with code 2.

    Args:
        hint: what else to do about an unknown one.
    """
    its = _of(found, request.name)
    if not its:
        known = ", ".join(dict.fromkeys(job.study for job in found))
        named = f"NAME is {request.name}; expected a study of {request.address}: {known}"
        refuse(PROGRAM, f"{named if found else f'{request.address} has no study'}{hint}")
    running = [job for job in its if request.name and not job.over]  # a later one may have been refused beside it
    return (running or its)[-1]


def _follow(
    request: Request, jobs: Jobs, job_id: str, name: str, opening: str = "", *, printed: int = 0, stopping: bool = False
) -> int:
    """Print what a study prints until it ends, or until Ctrl-C; the exit code.

    Args:
        opening: what to print first.
        printed: characters of its log that are not to be printed.
        stopping: whether it was told to stop.
    """
    follower = Follower(jobs, job_id, _show, printed)
    try:
        if opening:
            emit(opening)
        job = follower.follow()
    except KeyboardInterrupt:
        state = "is stopping" if stopping else "is still running"
        if follower.broken:
            state = f"last answered {duration(time.monotonic() - follower.answered)} ago"
        emit(f"\nStudy {name} {state}.\n{_commands(request, name, stopping)}")
        return Exit.INTERRUPTED
    return _report_end(request, job, jobs.log(job_id))


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
    if code in (Exit.TOO_MANY_FAILED, Exit.INTERRUPTED) or (job.exit_code is None and code != Exit.DONE):
        emit(f"Continue:  {request.command('resume', job.study)}")
    return code


def _outcome(job: Job) -> str:
    if not job.over:
        return "is running"
    if job.status == "STOPPED":
        return "was stopped"
    if job.exit_code is None and job.code != Exit.DONE:
        return f"was lost: {' '.join(job.message.split())[:300]}"
    signal = -(job.exit_code or 0)
    return f"was killed by signal {signal}" if signal > 0 else f"ended with exit code {job.code}"


def _described(job: Job, jobs: Jobs) -> str:
    """A study in one line."""
    progress = _progress(jobs.log(job.id))
    trials = f"{progress[0]} of {progress[1]} trials done" if progress else "no trial done yet"
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started))
    return f"{job.study} {_outcome(job)}; {trials}; {job.id} since {began}; results in {job.results}/{job.study}"


def _progress(log: str) -> tuple[int, int] | None:
    """How many trials were complete, and how many are to be, when a study last printed it."""
    found = re.findall(r"(\d+) of (\d+) trials", log)
    return (int(found[-1][0]), int(found[-1][1])) if found else None


def _show(piece: str) -> None:
    emit(piece, end="")
