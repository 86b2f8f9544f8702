"""`python -m study.cluster.attempt OPTIONS`: study.run, which continues the study if an earlier attempt began it."""

import sys

from study import run
from study.folder import Folder
from study.options import parse


def main(words: list[str]) -> int:
    """Run the study of these options of study.run; the exit code."""
    options = parse(words)
    begun = options.name and Folder(options.results / options.name).exists()
    return run.main([*words, "--resume"] if begun else words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
