"""`python -m study.submit`: hand a study to a cluster, and look after it there.

options --> a backend's function named after the action --> exit code
"""

import sys

PROGRAM = "python -m study.submit"
INTERRUPTED = 75  # as study.run has it


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    try:
        return _act(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return INTERRUPTED


def _act(arguments: list[str]) -> int:
    import importlib  # here, so that Ctrl-C is heeded while they load

    from study.cluster.options import BACKENDS, read
    from study.console import tolerate
    from study.folder import FolderError
    from study.machine import ClusterError
    from study.run import ENVIRONMENT

    asked = read(arguments)
    tolerate()
    try:
        code: int = getattr(importlib.import_module(BACKENDS[asked.on]), asked.action)(asked)
        return code
    except (ClusterError, FolderError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return ENVIRONMENT
    except OSError as error:
        if not error.filename:
            raise
        print(f"{PROGRAM}: {error.filename}: {error.strerror}", file=sys.stderr)
        return ENVIRONMENT


if __name__ == "__main__":
    sys.exit(main())
