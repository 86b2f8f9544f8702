"""What the commands do on a Ray cluster. Each takes what was asked for and returns the exit code."""

import re
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from moe.config import HOLDOUT
from moe.options import refuse
from study import machine
from study.machine import ClusterError
from study.options import Options, parse, space_of
from study.records import Folder
from study.run import DONE, ENVIRONMENT, INTERRUPTED, TOO_MANY_FAILED
from study.submit import checks, package
from study.submit.checks import Check
from study.submit.contact import meet
from study.submit.fetching import unpack
from study.submit.jobs import STOP_S, STOPPED, Job, Jobs, connect
from study.submit.options import PROGRAM, RESUME, Asked, absolute, carried, space_file, words
from study.terminal import say

_STANDING = re.compile(r"\d+ of \d+ trials(?: done[^|\n]*)?")  # as study.progress and study.run have it


def submit(asked: Asked) -> int:
    """Check the cluster, submit a study or its resume, and follow it."""
    jobs = _jobs(asked, aloud=True)
    earlier = jobs.studies()
    run, env = _wanted(asked, _newest(earlier, asked.name) if asked.action == RESUME else None)
    collected = package.collect()
    _require([*_at_work(run.name, earlier), checks.judge_package(collected)])
    with package.copied(collected, space_file(run)) as folder:
        run = _checked(jobs, run, env, folder, {job.study for job in earlier})
        if asked.dry_run:
            say("Nothing was submitted.")
            return DONE
        identity = jobs.launch(run, folder, env, machine.commit(), {job.id for job in earlier})
    assert run.name
    say(f"Submitted as {identity}.")
    if asked.detach:
        say(_from_here(asked, run.name))
        return DONE
    return _follow(asked, jobs, identity, run.name)


resume = submit


def status(asked: Asked) -> int:
    """List the studies of the cluster, or say how one of them is."""
    jobs = _jobs(asked)
    found = jobs.studies()
    if not found and not asked.name:
        say(f"{asked.address} knows of no study; one from before it was started anew goes on with resume NAME")
    for job in [_pick(found, asked)] if asked.name else {job.study: job for job in found}.values():
        say(_described(job, jobs.log(job.id)))
    return DONE


def logs(asked: Asked) -> int:
    """Print what a study has printed, and with --follow what it still will."""
    jobs = _jobs(asked)
    job = _pick(jobs.studies(), asked)
    if asked.follow:
        return _follow(asked, jobs, job.id, job.study)
    _write(jobs.log(job.id))
    return DONE


def stop(asked: Asked) -> int:
    """Let a study save and end, and wait for it."""
    jobs = _jobs(asked)
    job = _pick(jobs.studies(), asked)
    if job.over:
        return _ended(asked, job)
    shown = len(jobs.log(job.id))
    jobs.stop(job.id)
    say(f"Stopping study {job.study}: it saves and ends, or is killed after {STOP_S} s.")
    return _follow(asked, jobs, job.id, job.study, shown)


def fetch(asked: Asked) -> int:
    """Copy a study's records, tables and figures here."""
    jobs = _jobs(asked)
    found = jobs.studies()
    if asked.name and asked.source:
        name, there = asked.name, asked.source
    else:
        job = _pick(found, asked)
        name, there = job.study, asked.source or parse(job.words).results
    with package.copied(package.collect()) as folder:
        answer = jobs.ask("study.submit.sending", [str(there.absolute()), name], folder, {})
    here = Folder(asked.results / name)
    count = unpack(answer, here)
    say(f"Study {name}: {count} files in {here.path}")
    return DONE


def _jobs(asked: Asked, aloud: bool = False) -> Jobs:
    """The cluster's jobs, once it has let us in."""
    contact = meet(asked.address, asked.without_authentication)
    if aloud:
        _require(contact.checks)
    for check in contact.checks:
        if not check.ok:
            raise ClusterError(check.sentence)
    return connect(asked.address, contact.token)


def _require(verdicts: Iterable[Check]) -> None:
    """Say what was checked; a `ClusterError` at the end if something failed."""
    failed = []
    for check in verdicts:
        say(str(check))
        failed += [check.name] * (not check.ok)
    if failed:
        raise ClusterError(f"nothing was submitted: see {', '.join(failed)} above")


def _wanted(asked: Asked, before: Job | None) -> tuple[Options, dict[str, str]]:
    """What study.run is to be given, but for what the nodes decide, and its environment.

    Args:
        asked: the command.
        before: the last job of the study that is resumed, if the cluster knows of it.
    """
    assert asked.run
    run = replace(asked.run, address="auto", name=asked.name)
    if asked.action == RESUME:
        if not (before or asked.name):
            refuse(PROGRAM, f"{asked.address} knows of no study; expected the NAME of the one to resume")
        run = replace(carried(run, parse(before.words)) if before else run, resume=True)
        run = replace(run, name=before.study if before else asked.name)
    return absolute(run), {**(before.env if before else {}), **asked.env}


def _at_work(name: str | None, earlier: list[Job]) -> Iterator[Check]:
    """Refuse a study that another job works at now."""
    for job in earlier:
        if job.study == name and not job.over:
            yield Check("study", False, f"{name} is at work as {job.id}; stop it first")


def _checked(jobs: Jobs, run: Options, env: dict[str, str], folder: Path, taken: set[str]) -> Options:
    """The options, once every node has been asked whether it can run them, with a name.

    Args:
        jobs: of the cluster.
        run: the options so far.
        env: for every process of the study.
        folder: the package.
        taken: names of other studies.
    """
    space = space_of(run.space or "notebook", run.protocol or HOLDOUT).name
    if file := space_file(run):
        run = replace(run, space=f"{package.EXTRA}/{file.name}")
    say("asking every node ...")
    facts = jobs.ask("study.submit.probe", words(run), folder, env)
    _require(checks.judge(facts, run))
    return replace(run, name=run.name or checks.free_name(facts, space, taken))


def _newest(found: list[Job], name: str | None) -> Job | None:
    """The last job of a study, or of any."""
    return next((job for job in reversed(found) if name in (None, job.study)), None)


def _pick(found: list[Job], asked: Asked) -> Job:
    """The study that is meant; an unknown one is refused with exit code 2."""
    job = _newest(found, asked.name)
    if not job:
        known = ", ".join({job.study: None for job in found}) or "none"
        refuse(PROGRAM, f"NAME is {asked.name or 'missing'}; expected a study of {asked.address}: {known}")
    return job


def _follow(asked: Asked, jobs: Jobs, identity: str, name: str, shown: int = 0) -> int:
    """Print what a study prints until it ends; its exit code."""
    from study.submit.following import Reader, follow

    try:
        job = follow(jobs, identity, Reader(_write, shown), lambda sentence: say(f"[{sentence}]"))
    except KeyboardInterrupt:
        say(f"\nStudy {name} goes on without you.\n{_from_here(asked, name)}")
        return INTERRUPTED
    return _ended(asked, job)


def _from_here(asked: Asked, name: str) -> str:
    return (
        f"Come back: {asked.command('logs', name, '--follow')}\n"
        f"Stop it:   {asked.command('stop', name)}\n"
        f"Fetch it:  {asked.command('fetch', name)}"
    )


def _ended(asked: Asked, job: Job) -> int:
    """Say how a study ended and what comes next; its exit code."""
    say(f"Study {job.study} {_outcome(job)}.")
    if job.code in (DONE, TOO_MANY_FAILED, ENVIRONMENT, INTERRUPTED):
        say(f"Fetch it:  {asked.command('fetch', job.study)}")
    if job.code in (TOO_MANY_FAILED, ENVIRONMENT, INTERRUPTED):
        say(f"Go on:     {asked.command('resume', job.study)}")
    return job.code


def _outcome(job: Job) -> str:
    if not job.over:
        return "is at work"
    if job.state == STOPPED:
        return f"was stopped, exit code {job.code}"
    if job.exit_code is None:
        return f"did not end by itself: {' '.join(job.message.split())[:300]}"
    if job.exit_code < 0:
        return f"was killed by signal {-job.exit_code}"
    return f"ended with exit code {job.exit_code}"


def _described(job: Job, log: str) -> str:
    """A study in one line."""
    standing = _STANDING.findall(log)
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started))
    parts = (
        f"{job.study} {_outcome(job)}",
        standing[-1].strip() if standing else "no trial done yet",
        f"{job.id} since {began}",
        f"results in {parse(job.words).results / job.study}",
    )
    return "; ".join(parts)


def _write(piece: str) -> None:
    """Print a piece of a log; where nobody reads any more, go on in silence."""
    if piece.endswith("\n"):
        say(piece[:-1])
    else:
        sys.stdout.write(piece)
