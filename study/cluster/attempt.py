"""`python -m study.cluster.attempt OPTIONS`: study.run, which continues the study if an earlier attempt began it."""

import sys

from moe.console import fail
from moe.store.files import PlaceError
from moe.store.location import place_at
from study import run
from study.folder import Folder
from study.options import Options, parse


def main(words: list[str]) -> int:
    """Run the study of these options of study.run; the exit code."""
    options = parse(words)
    try:
        begun = options.name is not None and _has_begun(options, options.name)
    except PlaceError as error:
        return fail("attempt", str(error))
    return run.main([*words, "--resume"] if begun else words)


def _has_begun(options: Options, name: str) -> bool:
    if Folder(options.studies / name).exists():
        return True
    return "://" in options.results and place_at(options.results).read(f"{name}/study.json") is not None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
