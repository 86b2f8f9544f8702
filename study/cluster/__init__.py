"""A study on a cluster: `python -m study.submit --address URL -- --trials 200`.

    options     the command line
    jobs        the actions: submit, status, logs, stop, fetch, resume
    client      the jobs of a Ray cluster: connection, token, answers
    http        requests to a server, with a limit on all that it can do
    logs        the log of a job as it grows
    package     the files that a job gets
    preflight   checks of every node, on the cluster, before the first trial
    fetch       a study's folder, copied here

Another kind of cluster is modules in place of `client` and `jobs`, with the same six actions.
"""
