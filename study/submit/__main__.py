"""`python -m study.submit`: hand a study to a cluster, and look after it there.

options --> a backend's function named after the action --> exit code
"""

import importlib
import sys

from study.machine import ClusterError
from study.records import FolderError
from study.run import ENVIRONMENT, INTERRUPTED
from study.submit.options import BACKENDS, PROGRAM, read
from study.terminal import tolerate


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    asked = read(sys.argv[1:] if arguments is None else arguments)
    tolerate()
    try:
        action = getattr(importlib.import_module(BACKENDS[asked.on]), asked.action)
        code: int = action(asked)
        return code
    except (ClusterError, FolderError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return ENVIRONMENT
    except OSError as error:
        if not error.filename:
            raise
        print(f"{PROGRAM}: {error.filename}: {error.strerror}", file=sys.stderr)
        return ENVIRONMENT
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
