"""The options of `python -m study.submit`, and how wrong ones are refused: at once, without torch, Ray or a network.

python -m study.submit --on ray --address URL -- --trials 200     what follows -- is for study.run
python -m study.submit status --address URL [NAME]                and logs, stop, fetch, resume likewise
"""

import argparse
import os
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from moe.cli import Parser, option, refuse
from moe.config import HOLDOUT
from study.options import Options, parse, space_of, study_name
from study.space import PRESETS

PROGRAM = "python -m study.submit"
SUBMIT, STATUS, LOGS, STOP, FETCH, RESUME = "submit", "status", "logs", "stop", "fetch", "resume"

#: what each action does, and whether options of study.run may follow it
ACTIONS = {
    SUBMIT: ("check the cluster, submit a study and follow it", True),
    STATUS: ("list the studies of the cluster, or say how one of them is", False),
    LOGS: ("print what a study has printed", False),
    STOP: ("let a study save and end, as Ctrl-C does", False),
    FETCH: ("copy a study's records, tables and figures here", False),
    RESUME: ("go on with a study", True),
}
BACKENDS = {"ray": "study.cluster.actions"}  # --on: the module whose functions are named after the actions

#: of a study's earlier run, what a resume takes over if it is not given anew; the rest is in the study's folder
CARRIED = ("gpus_per_trial", "cpus_per_trial", "concurrency")

#: the words of a variable's name, between _, by which it is taken for a secret
_SECRET = re.compile(r"\w*(APIKEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL)S?|KEYS?|PASS|AUTH", re.IGNORECASE)
_WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^@\s]*@")
_OURS = ("RAY_JOB_", "STUDY_", "PYTHONUNBUFFERED")  # how a job is run is not for --env
_REMOTE = re.compile(r"[a-z0-9]+:/")  # a URL, as a path has it
_UNSAID = "/dev/null/unsaid"  # stands for --results where it is not given: no folder can be there
_EPILOG = """\
{program} [submit] --address URL [options] -- OPTIONS OF study.run
{program} status   --address URL [NAME]
{program} logs     --address URL [NAME] [--follow]
{program} stop     --address URL [NAME]
{program} fetch    --address URL [NAME] [--results DIR] [--from DIR]
{program} resume   --address URL [NAME] [options] [-- OPTIONS OF study.run]

NAME is a study's; without it, status lists all, stop takes the one at work and the others take the newest one.
Paths among the options of study.run are paths of the cluster; relative ones are taken from the folder you are in.

exit codes: 0 done, 1 a bug, 2 wrong usage, 4 cluster or machine; an action that waits for the study's end has the
study's own: 0 done, 3 too many trials failed, 4 data or machine, 75 interrupted or left alone, and resumable
"""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for."""

    action: str
    on: str
    address: str  # URL of the dashboard
    name: str | None = None
    without_authentication: bool = False
    env: dict[str, str] = field(default_factory=dict)
    detach: bool = False
    dry_run: bool = False
    follow: bool = False
    results: Path = Path("results")  # here, for fetch
    source: Path | None = None  # there, for fetch
    run: Options | None = None  # of study.run
    placed: bool = False  # whether these have --results

    def command(self, action: str, name: str, *words: str) -> str:
        """Another command about a study on the same cluster."""
        open_door = ["--without-authentication"] if self.without_authentication else []
        return shlex.join([*PROGRAM.split(), action, "--address", self.address, *open_door, name, *words])


def read(arguments: list[str]) -> Asked:
    """Read the command line; what is wrong on its face is refused with exit code 2."""
    own, separator, words = _split(arguments)
    action = own.pop(0) if own and not own[0].startswith("-") else SUBMIT
    if action not in ACTIONS:
        refuse(PROGRAM, f"the action is {action!r}; expected {', '.join(ACTIONS)}")
    given = _given(action, own)
    if separator and not ACTIONS[action][1]:
        refuse(PROGRAM, f"{action} is followed by --; expected no options of study.run")
    asked = Asked(action=action, **{**given, "env": dict(given.get("env", ()))})
    return replace(asked, **_run(asked, words)) if ACTIONS[action][1] else asked


def _given(action: str, own: list[str]) -> dict[str, Any]:
    """What the words before -- say, by name."""
    parser = _parser(action)
    found, unknown = parser.parse_known_args(own)
    if unknown:
        _refuse_unknown(parser, action, unknown)
    return vars(found)


def _refuse_unknown(parser: Parser, action: str, unknown: list[str]) -> NoReturn:
    if action == SUBMIT and (misplaced := next((word for word in unknown if word in ACTIONS), None)):
        refuse(
            PROGRAM, f"{misplaced} stands after options; the action comes first: {PROGRAM} {misplaced} --address URL"
        )
    if ACTIONS[action][1]:
        refuse(PROGRAM, f"{unknown[0]} stands before --; options of study.run follow it: -- {shlex.join(unknown)}")
    parser.error(f"unrecognized arguments: {' '.join(unknown)}")


def _split(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in arguments:
        return list(arguments), False, []
    at = arguments.index("--")
    return arguments[:at], True, arguments[at + 1 :]


def _parser(action: str) -> Parser:
    parser = Parser(
        prog=PROGRAM if action == SUBMIT else f"{PROGRAM} {action}",
        description=f"{ACTIONS[action][0].capitalize()}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG.format(program=PROGRAM),
    )
    parser.add_argument("--on", choices=tuple(BACKENDS), default="ray", help="what runs the study (ray)")
    parser.add_argument(
        "--address",
        type=_url,
        **_default("RAY_API_SERVER_ADDRESS"),
        metavar="URL",
        help="of the cluster's dashboard, such as http://head:8265 (default: RAY_API_SERVER_ADDRESS)",
    )
    parser.add_argument(
        "--without-authentication", action="store_true", help="use a cluster that lets everybody run code"
    )
    if action != SUBMIT:
        parser.add_argument("name", nargs="?", type=study_name, metavar="NAME", help="of the study")
    if action in _ADD:
        _ADD[action](parser)
    return parser


def _default(variable: str) -> dict[str, Any]:
    value = os.environ.get(variable)
    return {"default": value} if value else {"required": True}


def _add_launch(parser: Parser) -> None:
    parser.add_argument("--detach", action="store_true", help="leave once the study is submitted")
    parser.add_argument("--dry-run", action="store_true", help="check everything, submit nothing")
    parser.add_argument(
        "--env",
        type=_variable,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable for every process of the study, readable by all who may use the cluster: no secrets",
    )


def _add_follow(parser: Parser) -> None:
    parser.add_argument("--follow", action="store_true", help="go on until the study ends; Ctrl-C leaves it alone")


def _add_folders(parser: Parser) -> None:
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="where it comes to here (results)"
    )
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="DIR", help="its results there, if the cluster forgot them"
    )


_ADD = {SUBMIT: _add_launch, RESUME: _add_launch, LOGS: _add_follow, FETCH: _add_folders}


def _url(text: str) -> str:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if "@" in url.netloc:
        raise argparse.ArgumentTypeError("has credentials in it; expected a URL without: see RAY_AUTH_TOKEN_PATH")
    plain = re.fullmatch(r"https?://[A-Za-z0-9._~:%/\[\]-]+", text)  # it will stand in commands that are copied
    if not plain or not url.hostname or port == 0:
        raise argparse.ArgumentTypeError(f"is {text!r}; expected the URL of a dashboard, such as http://head:8265")
    return text.rstrip("/")


def _variable(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise argparse.ArgumentTypeError(f"is {name!r}; expected NAME=VALUE")
    if name.startswith(_OURS):
        raise argparse.ArgumentTypeError(f"is {name}=..., which is set for every job; expected another variable")
    if any(_SECRET.fullmatch(word) for word in name.split("_")) or _WITH_PASSWORD.search(value):
        raise argparse.ArgumentTypeError(
            f"is {name}=..., which looks like a secret that all users of the cluster could read; "
            "expected it in the nodes' own environment"
        )
    return name, value


def _run(asked: Asked, words: list[str]) -> dict[str, Any]:
    """The options of study.run, and the study's name, which either side may give."""
    run = parse(["--results", _UNSAID, *words])
    placed = run.results != Path(_UNSAID)
    run = run if placed else run.replace(results=Path("results"))
    if run.address != "local":
        refuse(PROGRAM, f"--address is {run.address} after --; expected it before, as the cluster's URL")
    if run.dry_run:
        refuse(PROGRAM, "--dry-run stands after --; expected it before, to check the cluster without submitting")
    if run.resume and asked.action == SUBMIT:
        refuse(PROGRAM, f"--resume stands after --; expected {PROGRAM} resume ... [NAME]")
    for name in ("results", "data"):
        if _REMOTE.match(str(place := getattr(run, name))):
            refuse(PROGRAM, f"--{name} is {place}; expected a folder that all nodes see: only --store may be a URL")
    if asked.name and run.name not in (None, asked.name):
        refuse(PROGRAM, f"--name is {run.name} after --; expected {asked.name}, as before")
    if run.space or asked.action == SUBMIT:
        space_of(run.space or "notebook", run.protocol or HOLDOUT)
    return {"run": run, "placed": placed, "name": asked.name or run.name}


def absolute(run: Options) -> Options:
    """With paths that mean the same from everywhere; those of a store are absolute already."""
    return run.replace(results=run.results.absolute(), data=run.data and run.data.absolute())


def space_file(run: Options) -> Path | None:
    """The YAML file that the options name; None for a preset, or none."""
    return Path(run.space).expanduser() if run.space and run.space not in PRESETS else None


def carried(run: Options, before: Options, placed: bool) -> Options:
    """The options of a resume, with those of the run before where it gives none.

    Args:
        run: the options that are given.
        before: those of the run before.
        placed: whether --results is among the given ones, which have a default for it.
    """
    taken = {name: getattr(before, name) for name in CARRIED if getattr(run, name) is None}
    if not placed:
        taken["results"] = before.results
    if not (run.store or run.no_store):
        taken |= {"store": before.store, "no_store": before.no_store}
    return run.replace(**taken)


def words(run: Options) -> list[str]:
    """The options as a command line has them; `parse` is the inverse."""
    found: list[str] = []
    for name, value in run:
        if value is True:
            found.append(option(name))
        elif value is not None and value is not False:
            found += [option(name), str(value)]
    return found
