"""The stage store from a terminal: `python -m moe.store ls`, `verify` and `gc --max-bytes 20GB`.

Exit codes: 0 done; 2 wrong usage; 4 the store cannot be read or written; 5 something was damaged; 130 Ctrl-C.
"""

import argparse
import json
import re
import sys
import time
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from rich.filesize import decimal

from moe.cli import Parser, refuse
from moe.config import Config
from moe.console import Exit, emit, fail, table, tolerate_encoding
from moe.store.damage import find_damage, read_aside
from moe.store.eviction import Deleted, delete, plan_gc
from moe.store.files import Local, Place, PlaceError
from moe.store.listing import Entry, folders, in_parallel, read_entries
from moe.store.location import default_location, place_at
from moe.store.manifest import PREDICTIONS, aside
from moe.store.tolerant import TolerantFiles

PROGRAM = "python -m moe.store"
UNITS = {
    f"{prefix}{kind}": base**power
    for kind, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate("kMGT", 1)
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([a-z]*)", re.IGNORECASE)


def main(arguments: Sequence[str] | None = None) -> int:
    """List, check or shrink a store; the exit code."""
    options = parser().parse_args(arguments)
    tolerate_encoding()
    try:
        place = place_at(default_location() if options.store is None else options.store)
    except ValueError as error:
        refuse(PROGRAM, f"{'MOE_STORE' if options.store is None else '--store'} is {error}")
    try:
        code: int = options.command(place, options)
        return code
    except PlaceError as error:
        return fail(PROGRAM, f"the store cannot be read or written: {error}")
    except KeyboardInterrupt:
        return Exit.CTRL_C


def parser() -> Parser:
    """All commands and their options."""
    found = Parser(prog=PROGRAM, description="List, check or shrink a store of trained stages.")
    where: dict[str, Any] = {"metavar": "PATH|URL", "help": "the store (default: MOE_STORE, or the user's cache)"}
    found.add_argument("--store", **where)
    commands = found.add_subparsers(metavar="ls|verify|gc", required=True)
    ls = commands.add_parser("ls", help="list the chains, the most recently used first")
    ls.add_argument("--json", action="store_true", help="print them as JSON, with their specs")
    verify = commands.add_parser("verify", help="compare all files with their SHA-256 and set aside what is damaged")
    words = (
        "delete the least recently used chains, and files that nobody needs; keep what was used in the last 24 hours"
    )
    gc = commands.add_parser("gc", help=words, description=f"{words[0].upper()}{words[1:]}.")
    gc.add_argument("--max-bytes", type=size, required=True, metavar="SIZE", help="what may stay, such as 20GB")
    gc.add_argument("--dry-run", action="store_true", help="show what would be deleted, and delete nothing")
    for command, function in ((ls, _ls), (verify, _verify), (gc, _gc)):
        command.add_argument("--store", default=argparse.SUPPRESS, **where)  # it may stand on either side
        command.set_defaults(command=function)
    return found


def size(text: str) -> int:
    """Parse a number of bytes, such as 500000000, 20GB or 1.5 TiB."""
    found = _SIZE.fullmatch(text)
    factors = {"": 1} | {unit.lower(): factor for unit, factor in UNITS.items()}
    if not found or found[2].lower() not in factors:
        valid = f"a number of bytes from 0 on, which {', '.join(UNITS)} may follow"
        raise argparse.ArgumentTypeError(f"is {text!r}; expected {valid}")
    return int(Decimal(found[1]) * factors[found[2].lower()])


def _ls(place: Place, options: argparse.Namespace) -> int:
    entries = read_entries(place)
    if options.json:
        emit(json.dumps([_as_json(entry) for entry in entries], indent=2))
    elif not entries:
        there = not isinstance(place, Local) or place.root.exists()
        emit(f"The store {place.name} {'holds no chains' if there else 'is not there'} yet.")
    else:
        emit(_table(entries))
        epochs = sum(entry.epochs for entry in entries)
        emit(f"{_chains(entries)}, {_count(epochs, 'epoch')}, {_bytes(entries)} in {place.name}")
    return _report(entry.error for entry in entries if entry.error)


def _report(errors: Iterable[str]) -> Exit:
    """Print what failed while the rest was done; the exit code."""
    code = Exit.DONE
    for error in errors:
        code = fail(PROGRAM, error)
    return code


def _verify(place: Place, options: argparse.Namespace) -> int:
    names, unread = folders(place)
    checked, damaged, errors = list[int](), list[tuple[str, str]](), list(unread.values())
    for folder, found in zip(names, in_parallel(partial(find_damage, place), names), strict=True):
        checked += found.sizes.values()
        errors += found.unread.values()
        for name, why in found.faults.items():
            emit(f"{folder}/{name}: {why}")
            damaged.append((folder, name))
    outcome = f"{len(damaged)} damaged, {_set_aside(place, damaged)}" if damaged else "none damaged"
    emit(f"{_count(len(checked), 'file')} ({decimal(sum(checked))}) checked in {place.name}: {outcome}")
    code = _report(errors)
    return Exit.DIFFERS if damaged else code


def _set_aside(place: Place, damaged: Iterable[tuple[str, str]]) -> str:
    """Move damaged files out of the way; what came of it, in words."""
    failures: list[str] = []
    files = TolerantFiles(place, failures.append, rest_s=0)
    for folder, name in damaged:
        files.move(f"{folder}/{name}", aside(folder, name, uuid.uuid4().hex[:8]))
    return f"not all of it set aside: {failures[0]}" if failures else "set aside and made again when needed"


def _gc(place: Place, options: argparse.Namespace) -> int:
    errors = list[str]()
    plan = plan_gc(read_entries(place), read_aside(place, errors.append), options.max_bytes, time.time())
    if options.dry_run and plan.chains:
        emit(_table(plan.chains))
    done = Deleted(plan.chains, plan.leftovers) if options.dry_run else delete(place, plan)
    leftovers, kept = sum(done.leftovers.values()), [*plan.kept, *done.used]
    freed = decimal(sum(entry.bytes for entry in done.chains) + leftovers)
    emit(
        f"{'Would free' if options.dry_run else 'Freed'} {freed}: {_chains(done.chains)} "
        f"({_bytes(done.chains)}) and {_count(len(done.leftovers), 'leftover file')} ({decimal(leftovers)})"
    )
    stay = "would stay" if options.dry_run else "stay"
    emit(f"{_bytes(kept)} in {_chains(kept)} {stay} in {place.name}")
    if sum(entry.bytes for entry in kept) > options.max_bytes:
        emit(f"This is more than {decimal(options.max_bytes)}: what is in use or was used in the last 24 hours stays")
    return _report([*errors, *done.errors, *(entry.error for entry in kept if entry.error)])


def _bytes(entries: Iterable[Entry]) -> str:
    return decimal(sum(entry.bytes for entry in entries))


def _chains(entries: Iterable[Entry]) -> str:
    """How many chains there are, less stages that cannot be listed."""
    return _count(sum("/" in entry.folder for entry in entries), "chain")


def _count(number: int, thing: str) -> str:
    """A number of things: 1 chain, 2 chains."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


HEADINGS = ("stage", "network", "epochs", "choices", "train_examples", "predictions", "size", "last used", "address")


def _table(entries: Iterable[Entry]) -> str:
    return table(HEADINGS, map(_row, entries), left=4)


def _row(entry: Entry) -> tuple[str, ...]:
    stage, _, address = entry.folder.partition("/")
    spec = entry.manifests[0].spec if entry.manifests else {}
    defaults = {name: value for name, value in Config().as_json().items() if name not in HEADINGS}
    others = [f"{name}={spec[name]}" for name, default in defaults.items() if spec.get(name, default) != default]
    return (
        stage,
        str(spec.get("network", "")),
        _epochs(entry),
        " ".join(others),
        str(spec.get("train_examples", "")),
        str(sum(PREDICTIONS.fullmatch(name) is not None for name in entry.files)),
        _bytes([entry]),
        f"{datetime.fromtimestamp(entry.used):%Y-%m-%d %H:%M}" if entry.used else "unknown",
        address[:8],
    )


def _epochs(entry: Entry) -> str:
    """How many epochs are stored, or why that is not known."""
    if entry.manifests:
        return f"{entry.epochs}{', stopped' if entry.stopped else ''}"
    return "no access" if entry.error else "unreadable" if entry.unreadable else "none yet"


def _as_json(entry: Entry) -> dict[str, Any]:
    """A chain; without its spec if no manifest can be read."""
    stage, _, address = entry.folder.partition("/")
    return {
        "stage": stage,
        "address": address,
        "epochs": entry.epochs,
        "stopped": entry.stopped,
        "bytes": entry.bytes,
        "used": datetime.fromtimestamp(entry.used).astimezone().isoformat() if entry.used else None,
        "spec": dict(entry.manifests[0].spec) if entry.manifests else None,
        "error": entry.error,
    }


if __name__ == "__main__":
    sys.exit(main())
