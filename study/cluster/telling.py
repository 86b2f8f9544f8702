"""What is said of a study on a cluster: what it prints, how it is, how it ended and what comes next."""

import os
import re
import sys
import time

from study.cluster.jobs import STOPPED, Job, Jobs
from study.cluster.options import PROGRAM, Asked
from study.console import duration, say
from study.run import DONE, ENVIRONMENT, INTERRUPTED, TOO_MANY_FAILED

# as study.run and study.search.progress say it
_STANDING = re.compile(r"\d+ of \d+ trials(?: done[^|\n]*)?")
_BEGUN = re.compile(r"^  records in |^Everything is in ", re.MULTILINE)
_COMPLETE = re.compile(r"^Everything is in [^\n]*\s*\Z", re.MULTILINE)  # and nothing after it on why it ended


def follow(
    asked: Asked, jobs: Jobs, identity: str, name: str, opening: str = "", *, shown: int = 0, stopping: bool = False
) -> int:
    """Print what a study prints until it ends; its exit code.

    Args:
        asked: the command.
        jobs: of the cluster.
        identity: of the study's job.
        name: of the study.
        opening: what to say first.
        shown: characters of its log that are not to be printed.
        stopping: whether it was told to end.
    """
    reader = None
    try:
        if opening:
            say(opening)
        from study.cluster import following

        reader = following.Reader(show, shown)
        job = following.follow(jobs, identity, reader, lambda sentence: say(f"[{sentence}]"))
    except KeyboardInterrupt:
        standing = "is stopping without you" if stopping else "goes on without you"
        if reader and reader.broken:
            standing = f"was last heard of {duration(time.monotonic() - reader.heard)} ago"
        say(f"\nStudy {name} {standing}.\n{from_here(asked, name, stopping)}")
        return INTERRUPTED
    return ended(asked, job, jobs.log(identity))


def from_here(asked: Asked, name: str, stopping: bool = False) -> str:
    """The commands for a study that goes on."""
    stop = "" if stopping else f"Stop it:   {asked.command('stop', name)}\n"
    return f"Come back: {asked.command('logs', name, '--follow')}\n{stop}Fetch it:  {asked.command('fetch', name)}"


def ended(asked: Asked, job: Job, log: str) -> int:
    """Say how a study ended and what comes next; its exit code."""
    say(f"Study {job.study} {outcome(job)}.")
    code = DONE if job.state == STOPPED and _COMPLETE.search(log) else job.code
    if not _BEGUN.search(log):
        return code
    if code in (DONE, TOO_MANY_FAILED, ENVIRONMENT, INTERRUPTED):
        say(f"Fetch it:  {asked.command('fetch', job.study)}")
    if code in (TOO_MANY_FAILED, ENVIRONMENT, INTERRUPTED):
        say(f"Go on:     {asked.command('resume', job.study)}")
    return code


def outcome(job: Job) -> str:
    """How a study is."""
    if not job.over:
        return "is at work"
    if job.state == STOPPED:  # Ray keeps no exit code then
        return "was stopped"
    if job.exit_code is None:
        return f"did not end by itself: {' '.join(job.message.split())[:300]}"
    if job.exit_code < 0:
        return f"was killed by signal {-job.exit_code}"
    return f"ended with exit code {job.exit_code}"


def described(job: Job, log: str) -> str:
    """A study in one line."""
    standing = _STANDING.findall(log)
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started))
    parts = (
        f"{job.study} {outcome(job)}",
        standing[-1].strip() if standing else "no trial done yet",
        f"{job.id} since {began}",
        f"results in {os.path.join(job.results, job.study)}",
    )
    return "; ".join(parts)


def show(piece: str) -> None:
    """Print a piece of a log; where nobody reads any more, go on in silence."""
    try:
        print(piece, end="", flush=True)
    except OSError as error:  # no fault of the connection, which a caller would mend
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"{PROGRAM}: what the study prints cannot be written: {error.strerror}", file=sys.stderr)
            sys.exit(ENVIRONMENT)
