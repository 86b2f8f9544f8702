"""The stage store from a terminal: `python -m moe.store ls`, `verify` and `gc --max-bytes 20GB`.

Exit codes: 0 done; 2 wrong usage; 4 the store cannot be read or written; 5 something was damaged; 130 Ctrl-C.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from moe.cli import Parser, refuse
from moe.console import Exit
from moe.store.damage import Damage, check
from moe.store.eviction import Freed, carry_out, plan
from moe.store.inventory import folders, in_parallel, take
from moe.store.location import default_location, place_at
from moe.store.place import Place, PlaceError
from moe.store.words import counted, human, size, table

PROGRAM = "python -m moe.store"
DAMAGED = 5


def main(arguments: list[str] | None = None) -> int:
    """Parse, look at a store or tidy it, and say so; the exit code."""
    asked = _parser().parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    try:
        place = place_at(default_location() if asked.store is None else asked.store)
    except ValueError as error:
        refuse(PROGRAM, f"{'MOE_STORE' if asked.store is None else '--store'} is {error}")
    try:
        code: int = asked.command(place, asked)
        return code
    except PlaceError as error:
        print(f"{PROGRAM}: the store cannot be read or written: {error}", file=sys.stderr)
        return Exit.ENVIRONMENT
    except KeyboardInterrupt:
        return Exit.CTRL_C


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="List, check or shrink a store of trained stages.")
    where: dict[str, Any] = {"metavar": "PATH|URL", "help": "the store (default: MOE_STORE, or the user's cache)"}
    parser.add_argument("--store", **where)
    commands = parser.add_subparsers(metavar="ls|verify|gc", required=True)
    ls = commands.add_parser("ls", help="list the chains, the most recently used first")
    verify = commands.add_parser("verify", help="compare all files with their hashes and set aside what is damaged")
    gc = commands.add_parser("gc", help="delete the least recently used chains, and what serves nobody")
    gc.add_argument("--max-bytes", type=size, required=True, metavar="SIZE", help="what may stay, such as 20GB")
    gc.add_argument("--dry-run", action="store_true", help="say what would go, and delete nothing")
    for command, does in ((ls, _ls), (verify, _verify), (gc, _gc)):
        command.add_argument("--store", default=argparse.SUPPRESS, **where)  # it may stand on either side
        command.set_defaults(command=does)
    return parser


def _joined(arguments: Iterable[str]) -> list[str]:
    """With a negative size tied to its option: on its own it looks like another option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--max-bytes" and re.match("-[0-9.]", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _say(line: str) -> None:
    """Print a line; where nobody reads any more, as after `| head`, go on in silence."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _ls(place: Place, asked: argparse.Namespace) -> int:
    chains = [entry for entry in take(place).entries if entry.files]
    if not chains:
        _say(f"The store {place.name} holds no chains yet.")
        return 0
    _say(table(chains, time.time()))
    epochs, total = sum(entry.epochs for entry in chains), sum(entry.bytes for entry in chains)
    _say(f"{counted(len(chains), 'chain')}, {counted(epochs, 'epoch')}, {human(total)} in {place.name}")
    return 0


def _verify(place: Place, asked: argparse.Namespace) -> int:
    files, read, damages = 0, 0, list[Damage]()
    for came_to in in_parallel(partial(check, place), folders(place)):
        files, read = files + came_to.files, read + came_to.bytes
        for damage in came_to.damages:
            _say(f"{damage.folder}/{damage.names[0]}: {damage.why}")
        damages += came_to.damages
    outcome = f"{len(damages)} damaged, {_set_aside(place, damages)}" if damages else "none damaged"
    _say(f"{counted(files, 'file')} ({human(read)}) checked in {place.name}: {outcome}")
    return DAMAGED if damages else 0


def _set_aside(place: Place, damages: Iterable[Damage]) -> str:
    """Take what is damaged out of the way; what came of that."""
    from moe.store.care import Care
    from moe.store.entries import Entries

    failures: list[str] = []
    entries = Entries(Care(place, failures.append, rest_s=0), lambda _: None)
    for damage in damages:
        entries.set_aside(damage.folder, list(damage.names), damage.why)
    return f"not all of it set aside: {failures[0]}" if failures else "set aside and made again when needed"


def _gc(place: Place, asked: argparse.Namespace) -> int:
    now = time.time()
    planned = plan(take(place), asked.max_bytes, now)
    if asked.dry_run and planned.evicted:
        _say(table(planned.evicted, now))
    freed = Freed(planned.evicted, ()) if asked.dry_run else carry_out(place, planned)
    chains, rest = sum(entry.bytes for entry in freed.chains), sum(planned.leftovers.values())
    _say(
        f"{'Would free' if asked.dry_run else 'Freed'} {human(chains + rest)}: {counted(len(freed.chains), 'chain')} "
        f"({human(chains)}) and {counted(len(planned.leftovers), 'leftover file')} ({human(rest)})"
    )
    if freed.spared:
        _say(f"{counted(len(freed.spared), 'chain')} came into use meanwhile and stay")
    left = [*planned.kept, *freed.spared]
    total = sum(entry.bytes for entry in left)
    remain = "would be left" if asked.dry_run else "left"
    _say(f"{human(total)} in {counted(len(left), 'chain')} {remain} in {place.name}")
    if (needed := sum(entry.bytes for entry in planned.kept)) > asked.max_bytes:
        running = counted(planned.running, "running session")
        _say(f"This is more than {human(asked.max_bytes)}: {human(needed)} are needed by {running}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
