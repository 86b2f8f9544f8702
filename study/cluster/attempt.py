"""`python -m study.cluster.attempt OPTIONS`: study.run, which continues the study if an earlier attempt began it."""

import sys
from contextlib import suppress

from moe.store.files import PlaceError
from moe.store.location import place_at
from study import run
from study.options import parse


def main(words: list[str]) -> int:
    """Run the study of these options of study.run; the exit code."""
    options, begun = parse(words), False
    with suppress(PlaceError):  # the study itself says why its results cannot be used
        begun = bool(options.name) and place_at(options.results).read(f"{options.name}/study.json") is not None
    return run.main([*words, "--resume"] if begun else words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
