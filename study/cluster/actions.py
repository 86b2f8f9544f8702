"""What the commands do on a Ray cluster. Each takes what was asked for and returns the exit code."""

from moe.cli import refuse
from study.cluster import launching, package
from study.cluster.contact import meet
from study.cluster.fetching import unpack
from study.cluster.jobs import STOP_S, Job, Jobs, connect
from study.cluster.options import PROGRAM, Asked
from study.cluster.telling import described, ended, follow, from_here, show
from study.console import say
from study.folder import Folder
from study.machine import ClusterError
from study.run import DONE


def submit(asked: Asked) -> int:
    """Check the cluster, submit a study or its resume, and follow it."""
    jobs = _jobs(asked, aloud=True)
    launched = launching.launch(asked, jobs)
    if not launched:
        say("Nothing was submitted.")
        return DONE
    opening = f"Submitted as {launched.id}."
    if asked.detach:
        say(f"{opening}\n{from_here(asked, launched.study)}")
        return DONE
    return follow(asked, jobs, launched.id, launched.study, opening)


resume = submit


def status(asked: Asked) -> int:
    """List the studies of the cluster, or say how one of them is."""
    jobs = _jobs(asked)
    found, unreadable = jobs.listed()
    if not found and not asked.name:
        say(f"{_unknown(asked)}; one from before it was started anew goes on with resume NAME -- --results DIR")
    for job in (
        [_pick(found, asked)] if asked.name else {job.study: _newest(found, job.study) for job in found}.values()
    ):
        assert job
        say(described(job, jobs.log(job.id)))
    if unreadable:
        say(f"{unreadable} more that another program or version submitted, and that cannot be read")
    return DONE


def logs(asked: Asked) -> int:
    """Print what a study has printed, and with --follow what it still will."""
    jobs = _jobs(asked)
    job = _pick(jobs.studies(), asked)
    if asked.follow:
        return follow(asked, jobs, job.id, job.study)
    show(jobs.log(job.id))
    return DONE


def stop(asked: Asked) -> int:
    """Let a study save and end, and wait for it."""
    jobs = _jobs(asked)
    job = _pick(jobs.studies(), asked) if asked.name else _only(jobs.studies(), asked)
    log = jobs.log(job.id)
    if job.over:
        return ended(asked, job, log)
    jobs.stop(job.id)
    opening = f"Stopping study {job.study}: it saves and ends, or is killed after {STOP_S} s."
    return follow(asked, jobs, job.id, job.study, opening, shown=len(log), stopping=True)


def fetch(asked: Asked) -> int:
    """Copy a study's records, tables and figures here."""
    jobs = _jobs(asked)
    name, there = asked.name, asked.source and str(asked.source.absolute())
    if not (name and there):
        job = _pick(jobs.studies(), asked, "; one that it forgot comes with fetch NAME --from DIR, its results there")
        name, there = job.study, there or job.results
    with package.copied(package.collect()) as folder:
        answer = jobs.ask("study.cluster.sending", [there, name], folder, {})
    here = Folder(asked.results / name)
    count = unpack(answer, here)
    say(f"Study {name}: {count} files in {here.path}")
    return DONE


def _jobs(asked: Asked, aloud: bool = False) -> Jobs:
    """The cluster's jobs, once it has let us in."""
    contact = meet(asked.address, asked.without_authentication)
    if aloud:
        launching.require(contact.checks)
    if not contact.ok:
        raise ClusterError(contact.checks[-1].sentence)
    return connect(asked.address, contact.token)


def _unknown(asked: Asked) -> str:
    return f"{asked.address} knows of no study"


def _newest(found: list[Job], name: str | None) -> Job | None:
    """The last job of a study, or of any; one at work before one that was refused beside it."""
    its = [job for job in found if name in (None, job.study)]
    return next((job for job in reversed(its) if name and not job.over), its[-1] if its else None)


def _pick(found: list[Job], asked: Asked, hint: str = "") -> Job:
    """The study that is meant; an unknown one is refused with exit code 2.

    Args:
        found: the studies of the cluster.
        asked: the command.
        hint: what else to do about an unknown one.
    """
    job = _newest(found, asked.name)
    if not job:
        known = ", ".join({other.study: None for other in found})
        named = f"NAME is {asked.name}; expected a study of {asked.address}: {known}"
        refuse(PROGRAM, f"{named if found else _unknown(asked)}{hint}")
    return job


def _only(found: list[Job], asked: Asked) -> Job:
    """The one study that is at work."""
    at_work = [job for job in found if not job.over]
    if len(at_work) != 1:
        known = ", ".join(job.study for job in at_work) or "none"
        refuse(PROGRAM, f"NAME is missing; expected one of the studies at work on {asked.address}: {known}")
    return at_work[0]
