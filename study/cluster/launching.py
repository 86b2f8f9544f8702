"""The way of a study to the cluster: what it is given, what is checked first, and the submission itself."""

import contextlib
import io
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from moe.cli import refuse
from moe.config import HOLDOUT
from study import machine
from study.cluster import checks, package
from study.cluster.checks import Check
from study.cluster.jobs import Job, Jobs, TakenError
from study.cluster.options import PROGRAM, RESUME, Asked, absolute, carried, space_file, words
from study.console import say
from study.machine import ClusterError
from study.options import Options, parse, space_of


@dataclass(frozen=True)
class Launched:
    """A job that the cluster has, or may have."""

    id: str
    study: str


def launch(asked: Asked, jobs: Jobs) -> Launched | None:
    """Check the cluster and submit a study; None for a dry run.

    Raises:
        ClusterError: something is missing there, or it did not take the job.
    """
    earlier = jobs.studies()
    before = _newest(earlier, asked)
    run, env = _wanted(asked, before)
    collected = package.collect()
    require([*_at_work(run.name, earlier), checks.judge_package(collected)])
    sent: list[Launched] = []  # the last one may be there, whatever happens from then on
    try:
        with package.copied(collected, space_file(run)) as folder:
            run, names = _checked(jobs, run, env, folder, {job.study for job in earlier})
            if not asked.dry_run:
                _submit(asked, jobs, run, names, folder, env, sent)
    except BaseException:
        if sent:
            there = asked.command("status", sent[-1].study)
            print(f"{sent[-1].id} may have been submitted; see: {there}", file=sys.stderr)
        raise
    return sent[-1] if sent else None


def require(verdicts: Iterable[Check]) -> None:
    """Say what was checked; a `ClusterError` at the end if something failed."""
    failed = []
    for check in verdicts:
        say(str(check))
        failed += [check.name] * (not check.ok)
    if failed:
        raise ClusterError(f"nothing was submitted: see {', '.join(failed)} above")


def _newest(earlier: list[Job], asked: Asked) -> Job | None:
    """The job that a resume goes on from, if the cluster knows of it."""
    if asked.action != RESUME:
        return None
    return next((job for job in reversed(earlier) if asked.name in (None, job.study)), None)


def _wanted(asked: Asked, before: Job | None) -> tuple[Options, dict[str, str]]:
    """What study.run is to be given, but for what the nodes decide, and its environment.

    Args:
        asked: the command.
        before: the last job of the study that is resumed, if the cluster knows of it.
    """
    assert asked.run
    run = asked.run.replace(address="auto", name=asked.name)
    if asked.action == RESUME:
        if not (before or asked.name):
            refuse(PROGRAM, f"{asked.address} knows of no study; expected the NAME of the one to resume")
        run = run.replace(resume=True, name=before.study if before else asked.name)
        if known := _options(before):
            run = carried(run, known, asked.placed)
        elif not asked.placed:
            refuse(
                PROGRAM,
                f"{asked.address} does not know with what study {run.name} was started; expected its folder there: "
                f"{PROGRAM} resume {run.name} ... -- --results DIR",
            )
    return absolute(run), {**(before.env if before else {}), **asked.env}


def _options(before: Job | None) -> Options | None:
    """What a job was given; None where that is unknown, as where another version wrote it."""
    try:
        given = json.loads(before.options) if before else None
        with contextlib.redirect_stderr(io.StringIO()):
            return parse(given) if isinstance(given, list) else None
    except (ValueError, TypeError, SystemExit):
        return None


def _at_work(name: str | None, earlier: list[Job]) -> Iterator[Check]:
    """Refuse a study that another job works at now."""
    for job in earlier:
        if job.study == name and not job.over:
            yield Check("study", False, f"{name} is at work as {job.id}; stop it first")


def _checked(
    jobs: Jobs, run: Options, env: dict[str, str], folder: Path, taken: set[str]
) -> tuple[Options, Iterator[str]]:
    """The options, once every node has been asked whether it can run them, and the names that are free.

    Args:
        jobs: of the cluster.
        run: the options so far.
        env: for every process of the study.
        folder: the package.
        taken: names of other studies.
    """
    space = space_of(run.space or "notebook", run.protocol or HOLDOUT).name
    if file := space_file(run):
        run = run.replace(space=f"{package.EXTRA}/{file.name}")
    say("asking every node ...")
    facts = jobs.ask("study.cluster.probe", words(run), folder, env)
    require(checks.judge(facts, run))
    return run, iter([run.name]) if run.name else checks.free_names(facts, space, taken)


def _submit(
    asked: Asked,
    jobs: Jobs,
    run: Options,
    names: Iterator[str],
    folder: Path,
    env: dict[str, str],
    sent: list[Launched],
) -> None:
    """Submit under the first name that nobody else has just taken.

    Args:
        asked: the command.
        jobs: of the cluster.
        run: the options of study.run.
        names: that the study may have.
        folder: the package.
        env: for every process of the study.
        sent: gets what the cluster may have, before it is sent.
    """
    taken = jobs.ids()
    for name in names:
        numbered = (f"study-{name}-{number}" for number in itertools.count(1))
        sent.append(Launched(next(identity for identity in numbered if identity not in taken), name))
        with contextlib.suppress(TakenError):
            resume = asked.command("resume", name)
            jobs.launch(sent[-1].id, run.replace(name=name), folder, env, machine.commit(), resume)
            return
        sent.pop()
    raise ClusterError(f"another command has just submitted study {run.name}; nothing was submitted")
