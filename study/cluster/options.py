"""The options of `python -m study.submit`; invalid ones exit with code 2, without torch, Ray or a network.

python -m study.submit --address URL -- --trials 200         what follows -- is for study.run
python -m study.submit status --address URL [NAME]           and logs, stop, fetch, resume likewise
"""

import argparse
import os
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from moe.cli import Parser, option, refuse
from moe.config import HOLDOUT
from study.options import Options, parse, space_of, study_name
from study.space import PRESETS

PROGRAM = "python -m study.submit"
SUBMIT, STATUS, LOGS, STOP, FETCH, RESUME = "submit", "status", "logs", "stop", "fetch", "resume"
ACTIONS = {
    SUBMIT: "submit a study and follow it",
    STATUS: "list the studies of the cluster, or print how one of them is",
    LOGS: "print what a study has printed",
    STOP: "let a study save and end, as Ctrl-C does",
    FETCH: "copy a study's records, tables and figures here",
    RESUME: "continue a study",
}
SENDS = (SUBMIT, RESUME)  # the actions that options of study.run may follow

#: the options of a study's last job that a resume takes over if they are not given; the rest is in the study's folder
CARRIED = ("gpus_per_trial", "cpus_per_trial", "concurrency")
SPACE_FOLDER = "submitted"  # where a space file is among the files of a job

_NOT_GIVEN = "/dev/null/results"  # in place of --results where it is not given: no folder can be there
_EPILOG = """\
{program} [submit] --address URL [options] -- OPTIONS OF study.run
{program} status   --address URL [NAME]
{program} logs     --address URL [NAME] [--follow]
{program} stop     --address URL [NAME]
{program} fetch    --address URL [NAME] [--results DIR] [--from DIR]
{program} resume   --address URL [NAME] [options] [-- OPTIONS OF study.run]

Without NAME, status lists all studies, stop takes the only running one and the others take the newest one.
Paths among the options of study.run are paths of the cluster; relative ones start at the folder you are in.

exit codes: 0 done, 1 a bug, 2 wrong usage, 4 cluster or machine; an action that waits for the end of a study has
the code of the study: 0 done, 3 too many trials failed, 4 data or machine, 75 interrupted or left, and resumable
"""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for."""

    action: str
    on: str = "ray"
    address: str  # URL of the dashboard
    name: str | None = None
    without_authentication: bool = False
    env: dict[str, str] = field(default_factory=dict)
    detach: bool = False
    dry_run: bool = False
    follow: bool = False
    results: Path = Path("results")  # on this machine, for fetch
    source: Path | None = None  # on the cluster, for fetch
    run: Options | None = None  # of study.run
    results_given: bool = False  # whether they have --results

    def command(self, action: str, name: str, *words: str) -> str:
        """Another command about a study on the same cluster."""
        open_cluster = ["--without-authentication"] if self.without_authentication else []
        return shlex.join([*PROGRAM.split(), action, "--address", self.address, *open_cluster, name, *words])


def read(arguments: list[str]) -> Request:
    """Read the command line; invalid options exit with code 2."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    own, separator, words = arguments[:at], arguments[at : at + 1], arguments[at + 1 :]
    action = own.pop(0) if own and not own[0].startswith("-") else SUBMIT
    if action not in ACTIONS:
        refuse(PROGRAM, f"the action is {action!r}; expected {', '.join(ACTIONS)}")
    if separator and action not in SENDS:
        refuse(PROGRAM, f"{action} is followed by --; expected no options of study.run")
    parser = _parser(action)
    found, unknown = parser.parse_known_args(own)
    if unknown:
        after = "the action first, and options of study.run after --" if action in SENDS else "no more than NAME"
        refuse(PROGRAM, f"{unknown[0]} is not an option of {action}; expected {after}")
    given = vars(found)
    request = Request(action=action, **{**given, "env": dict(given.get("env", ()))})
    return _with_run(request, words) if action in SENDS else request


def _parser(action: str) -> Parser:
    parser = Parser(
        prog=PROGRAM if action == SUBMIT else f"{PROGRAM} {action}",
        description=f"{ACTIONS[action].capitalize()}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG.format(program=PROGRAM),
    )
    parser.add_argument("--on", choices=("ray",), default="ray", help="what runs the study (ray)")
    address = os.environ.get("RAY_API_SERVER_ADDRESS")
    words = "of the cluster's dashboard, such as http://head:8265 (default: RAY_API_SERVER_ADDRESS)"
    parser.add_argument("--address", type=_url, default=address, required=not address, metavar="URL", help=words)
    words = "use a cluster that lets everybody run code"
    parser.add_argument("--without-authentication", action="store_true", help=words)
    if action != SUBMIT:
        parser.add_argument("name", nargs="?", type=study_name, metavar="NAME", help="of the study")
    if action in SENDS:
        _add_sending(parser)
    if action == LOGS:
        words = "continue until the study ends; Ctrl-C leaves it running"
        parser.add_argument("--follow", action="store_true", help=words)
    if action == FETCH:
        words = "the results folder on this machine (results)"
        parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help=words)
        words = "the results folder on the cluster, for a study from before a restart"
        parser.add_argument("--from", dest="source", type=Path, metavar="DIR", help=words)
    return parser


def _add_sending(parser: Parser) -> None:
    parser.add_argument("--detach", action="store_true", help="return once the study is submitted")
    parser.add_argument("--dry-run", action="store_true", help="check every node in a job, run no study")
    parser.add_argument(
        "--env",
        type=_variable,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable for every process of the study; all users of the cluster can read it: no secrets",
    )


def _url(text: str) -> str:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if "@" in url.netloc:
        raise argparse.ArgumentTypeError("has credentials in it; expected a URL without: see RAY_AUTH_TOKEN_PATH")
    plain = re.fullmatch(r"https?://[A-Za-z0-9._~:%/\[\]-]+", text)  # it is printed in commands that are copied
    if not plain or not url.hostname or port == 0:
        raise argparse.ArgumentTypeError(f"is {text!r}; expected the URL of a dashboard, such as http://head:8265")
    return text.rstrip("/")


def _variable(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise argparse.ArgumentTypeError(f"is {name!r}; expected NAME=VALUE")
    return name, value


def _with_run(request: Request, words: list[str]) -> Request:
    """The request with the options of study.run; the name of the study may be on either side of --."""
    run = parse(["--results", _NOT_GIVEN, *words])
    given = run.results != Path(_NOT_GIVEN)
    if run.address != "local":
        refuse(PROGRAM, f"--address is {run.address} after --; expected it before, as the URL of the cluster")
    if run.dry_run:
        refuse(PROGRAM, "--dry-run is after --; expected it before")
    if run.resume and request.action == SUBMIT:
        refuse(PROGRAM, f"--resume is after --; expected {PROGRAM} resume ... [NAME]")
    for name in ("results", "data"):
        if re.match(r"[a-z0-9]+:/", place := str(getattr(run, name))):  # a URL, as Path writes it
            refuse(PROGRAM, f"--{name} is {place}; expected a folder that all nodes have: only --store may be a URL")
    if request.name and run.name not in (None, request.name):
        refuse(PROGRAM, f"--name is {run.name} after --; expected {request.name}, as before")
    if run.space or request.action == SUBMIT:
        space_of(run.space or "notebook", run.protocol or HOLDOUT)
    run = run if given else replace(run, results=Path("results"))
    return replace(request, run=run, results_given=given, name=request.name or run.name)


def space_file(run: Options) -> Path | None:
    """The YAML file that the options name; None for a preset, or none."""
    return Path(run.space).expanduser() if run.space and run.space not in PRESETS else None


def job_words(request: Request, name: str, before: Options | None) -> list[str]:
    """The options of study.run in a job.

    Args:
        request: a submit or a resume.
        name: of the study.
        before: the options of the study's last job, for a resume.
    """
    run = request.run
    assert run
    values: dict[str, Any] = {**vars(run), "address": "auto", "name": name, "dry_run": request.dry_run}
    values |= {"resume": request.action == RESUME, "data": run.data and run.data.absolute()}
    if file := space_file(run):
        values["space"] = f"{SPACE_FOLDER}/{file.name}"
    if before:
        values |= {field: getattr(before, field) for field in CARRIED if values[field] is None}
        if not request.results_given:
            values["results"] = before.results
        if not (run.store or run.no_store):
            values |= {"store": before.store, "no_store": before.no_store}
    values["results"] = values["results"].absolute()
    given = {option(name): value for name, value in values.items() if value is not None and value is not False}
    return [word for name, value in given.items() for word in ([name] if value is True else [name, str(value)])]
