"""The options of `python -m study.submit`; invalid ones exit with code 2, without torch, Ray or a network.

python -m study.submit --address URL -- --trials 200         what follows -- is for study.run
python -m study.submit status --address URL [NAME]           and logs, stop, fetch, resume likewise
python -m study.submit --on slurm --time 12:00:00 -- ...     other kinds of cluster have other options
"""

import argparse
import os
import re
import ssl
from datetime import datetime
from pathlib import Path
from typing import get_args

from moe.cli import Parser, add_options, from_options, location, refuse
from moe.files import FOLDER, expanded, irregular
from study.cluster.request import ACTIONS, JOB, NOT_GIVEN, OTHERS, PLACE, PROGRAM, SENDS, Action, Kind, Request
from study.options import DEFAULTS, MOST_PORT, PER_RUN, Options, parse, space_of, study_name
from study.space import PRESETS, Space

#: the options of a study's last job that a resume takes over if they are not given, beside its results
CARRIED = tuple(name for name in PER_RUN if name not in ("results", "address"))
SPACE_FOLDER = "submitted"  # where a space file is among the files of a job

#: the name of a variable whose value is a secret, or what that has between two _
_SECRET = re.compile(
    r"\w*((API|ACCESS|SECRET|PRIVATE|ACCOUNT|MASTER|SIGNING|SSH)_?KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL"
    r"|CONNECTION_?STRING)S?|KEYS?|PASS|PWD|PW|PAT|AUTH",
    re.IGNORECASE,
)
#: a password in a URL, an account's key, a signed URL, a header, a private key
_SECRET_VALUE = re.compile(
    r"://[^/@\s]*:[^@\s]*@|AccountKey=|SharedAccessSignature|[?&](sig|[\w-]*signature)=|\b(Bearer|Basic) |-----BEGIN",
    re.IGNORECASE,
)
_OURS = ("RAY_JOB_", "STUDY_", "PYTHONUNBUFFERED")  # how a job runs is not for --env
_EPILOG = """\
{program} [submit] --address URL [options] -- OPTIONS OF study.run
{program} status|logs|stop|fetch|resume --address URL [options] [NAME]
{program} [ACTION] --on slurm|kubernetes [options] ...      see --on slurm --help

On Ray, without NAME, status lists all studies, stop takes the only running one and the others take the newest one.
Paths among the options of study.run are paths of the cluster; relative ones start at the folder you are in.

exit codes: 0 done, 1 a bug, 2 wrong usage, 4 cluster or machine; an action that waits for the end of a study has
the code of the study: 0 done, 3 too many trials failed, 4 data or machine, 75 interrupted or left, and resumable
"""


def read(arguments: list[str]) -> Request:
    """Read the command line; invalid options exit with code 2."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    own, separator, words = arguments[:at], arguments[at : at + 1], arguments[at + 1 :]
    on = _kind(own)
    named = own.pop(0) if own and not own[0].startswith("-") else "submit"
    action: Action | None = next((action for action in ACTIONS if action == named), None)
    if action is None:
        refuse(PROGRAM, f"the action is {named!r}; expected {', '.join(get_args(Action))}")
    if separator and action not in SENDS:
        refuse(PROGRAM, f"{action} is followed by --; expected no options of study.run")
    given, unknown = parser(action, on).parse_known_args(own)
    if unknown:
        after = "the action first, and options of study.run after --" if action in SENDS else "no more than NAME"
        refuse(PROGRAM, f"{unknown[0]} is not an option of {action}; expected {after}")
    given.env = dict(getattr(given, "env", ()))
    request = from_options(Request, given, PROGRAM, action=action)
    if request.ca:
        request = request.replace(ca=_checked_ca(request.ca, request.address))
    if action == "fetch" and on == "ray":
        _check_source(request)
    return _with_run(request, words) if action in SENDS else request


def _check_source(request: Request) -> None:
    """A fetch from a URL needs a name and no cluster, any other one a cluster."""
    behind_url = "://" in (request.source or "")
    if behind_url and not request.name:
        refuse(PROGRAM, f"--from is {request.source}, without NAME; expected both")
    if not (behind_url or request.address):
        refuse(PROGRAM, "--address is missing; expected the URL of a dashboard, or --from with that of the results")


def _kind(own: list[str]) -> Kind:
    """The kind of cluster, which decides what other options there are."""
    first = Parser(prog=PROGRAM, add_help=False)
    add_options(first, Request, "on")
    on: Kind = first.parse_known_args([word for word in own if word != "--version"])[0].on
    return on


def parser(action: Action = "submit", on: Kind = "ray") -> Parser:
    """The options of an action on a kind of cluster, without those of study.run."""
    found = Parser(
        prog=PROGRAM if action == "submit" else f"{PROGRAM} {action}",
        description=ACTIONS[action],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG.format(program=PROGRAM),
    )
    add_options(found, Request, "on", *(name for name in PLACE[on] if name != "address"))
    if on == "ray":
        address = os.environ.get("RAY_API_SERVER_ADDRESS")
        help_text = "of the cluster's dashboard, such as http://head:8265 (default: RAY_API_SERVER_ADDRESS)"
        found.add_argument(
            "--address", type=_url, default=address or argparse.SUPPRESS, required=not address and action != "fetch",
            metavar="URL", help=help_text,
        )  # fmt: skip
    for name in JOB[on] if action in SENDS else OTHERS[on].get(action, ()):
        add_options(found, Request, name)
    if action != "submit":
        needed = on != "ray" and action not in ("status", "resume")
        found.add_argument("name", nargs=None if needed else "?", type=study_name, metavar="NAME", help="of the study")
    if action in SENDS:
        help_text = "for every process of the study; all users of the cluster can read it: no secrets"
        found.add_argument(
            "--env", type=_variable, action="append", default=[], metavar="NAME=VALUE", help=help_text
        )  # fmt: skip
        if on != "ray":
            command = {"slurm": "sbatch", "kubernetes": "kubectl"}[on]
            found.add_argument("--run", dest="send", action="store_true", help=f"give the file to {command}")
    if action == "fetch":
        help_text = "the results folder on the cluster" + ", for a study from before a restart" * (on == "ray")
        help_text += ", or the URL of the results"
        found.add_argument(
            "--from", dest="source", type=location, required=on == "slurm", metavar="DIR|URL", help=help_text
        )
    return found


def _url(text: str) -> str:
    if "@" in text:
        raise argparse.ArgumentTypeError("has credentials in it; expected a URL without: see RAY_AUTH_TOKEN_PATH")
    host, path = r"([A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.]+\])", r"(/[A-Za-z0-9._~:%/-]*)?"  # safe in a shell
    found = re.fullmatch(rf"https?://{host}(:([1-9][0-9]{{0,4}}))?{path}", text)
    if not found or int(found[3] or 0) > MOST_PORT:
        raise argparse.ArgumentTypeError(f"is {text!r}; expected the URL of a dashboard, such as http://head:8265")
    return text.rstrip("/")


def _checked_ca(path: Path, address: str) -> Path:
    """The absolute path of a file with certificates; one that cannot be used exits with code 2."""
    if not address.startswith("https:"):
        refuse(PROGRAM, f"--ca is {path} and --address is {address}; expected an address with https")
    try:
        if irregular(path) not in (None, FOLDER):  # a pipe would be waited for
            raise ssl.SSLError
        ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError too
        reason = "it has no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        refuse(PROGRAM, f"--ca is {path}: {reason}; expected a file with certificates in PEM")
    return path.absolute()


def _variable(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise argparse.ArgumentTypeError(f"is {name!r}; expected NAME=VALUE")
    if name.startswith(_OURS):
        raise argparse.ArgumentTypeError(f"is {name}=..., which is set for every job; expected another variable")
    if any(map(_SECRET.fullmatch, [name, *name.split("_")])) or _SECRET_VALUE.search(value):
        secret = f"is {name}=..., which looks like a secret that all users of the cluster could read"
        raise argparse.ArgumentTypeError(f"{secret}; expected it in the environment of the nodes")
    return name, value


def _with_run(request: Request, words: list[str]) -> Request:
    """The request with the options of study.run; the name of the study may be on either side of --."""
    run = parse(["--results", NOT_GIVEN, *words])
    if run.address != "local":
        refuse(PROGRAM, f"--address is {run.address} after --; expected it before, as the URL of the cluster")
    if run.dry_run:
        refuse(PROGRAM, "--dry-run is after --; expected it before")
    if run.worker:
        refuse(
            PROGRAM,
            "--worker is after --; expected none: study/cluster/README.md shows how to start workers without Ray",
        )
    if run.resume and request.action == "submit":
        refuse(PROGRAM, f"--resume is after --; expected {PROGRAM} resume ... [NAME]")
    if re.match(r"[a-z0-9]+:/", place := str(run.data)):  # a URL, as Path writes it
        refuse(PROGRAM, f"--data is {place}; expected a folder that all nodes have")
    if request.on == "slurm" and "://" in run.results:
        refuse(PROGRAM, f"--results is {run.results}; expected a folder that all nodes see: Slurm writes its log there")
    if request.name and run.name not in (None, request.name):
        refuse(PROGRAM, f"--name is {run.name} after --; expected {request.name}, as before")
    if run.space or request.action == "submit":
        _space(run)
    return request.replace(run=run, name=request.name or run.name)


def _space(run: Options) -> Space:
    return space_of(run.space or DEFAULTS["space"], run.protocol or DEFAULTS["protocol"])


def new_name(request: Request) -> str:
    """The name of a study without one: its space and this moment."""
    assert request.run
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", _space(request.run).name).lstrip("._-")[:50]
    return f"{plain or 'study'}-{datetime.now():%Y%m%d-%H%M%S-%f}"


def space_file(request: Request) -> Path | None:
    """The YAML file that the options of study.run name; None for a preset, or none."""
    name = request.run and request.run.space
    return expanded(name) if name and name not in PRESETS else None


def job_options(
    request: Request, name: str, before: Options | None = None, space_folder: str | None = SPACE_FOLDER
) -> Options:
    """The options of study.run in a job for a submit, or for a resume after a job with the options `before`."""
    run = request.run  # where space_folder is None, the file of a search space stays where it is
    assert run
    resume, data = request.action == "resume", run.data and run.data.absolute()
    changes = {"address": "auto", "name": name, "dry_run": request.dry_run, "resume": resume, "data": data}
    if file := space_file(request):
        changes["space"] = f"{space_folder}/{file.name}" if space_folder else str(file.absolute())
    if before:
        default = Options()
        changes |= {name: getattr(before, name) for name in CARRIED if getattr(run, name) == getattr(default, name)}
        if run.store or run.no_store:
            changes |= {"store": run.store, "no_store": run.no_store}
    results = run.results if request.results_given else before.results if before else "results"
    return run.replace(**changes, results=results if "://" in results else str(Path(results).absolute()))
