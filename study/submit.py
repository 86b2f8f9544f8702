"""`python -m study.submit`: a study on a cluster, and the commands for one that runs there. See `study/cluster/`."""

import sys

from moe.console import Exit, fail, tolerate_encoding, warn


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    program = "python -m study.submit"
    try:
        from moe.store.files import PlaceError  # imports are here so that Ctrl-C while they load is handled
        from study.cluster.options import read
        from study.folder import FolderError
        from study.machine import ClusterError

        request = read(sys.argv[1:] if arguments is None else arguments)
        tolerate_encoding()
        if request.action == "fetch" and request.name and request.source and "://" in request.source:
            from study.cluster.fetch import receive_remote

            return receive_remote(request.source, request.results, request.name)
        if request.on == "ray":
            from study.cluster import client, jobs

            return jobs.ACTIONS[request.action](request, client.connect(request))
        from study.cluster import kubernetes, slurm

        actions = slurm.ACTIONS if request.on == "slurm" else kubernetes.ACTIONS
        return actions[request.action](request)
    except KeyboardInterrupt:
        warn(program, "interrupted")
        return Exit.INTERRUPTED
    except (ClusterError, FolderError, PlaceError) as error:
        return fail(program, str(error))
    except OSError as error:
        if not error.filename:
            raise
        return fail(program, f"{error.filename}: {error.strerror}")


if __name__ == "__main__":
    sys.exit(main())
