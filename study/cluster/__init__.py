"""A study on a cluster: `python -m study.submit --address URL -- --trials 200`.

    request     what is asked for, and the options of each kind of cluster
    options     the command line

on a Ray cluster:

    jobs        the actions: submit, status, logs, stop, fetch, resume
    client      the jobs of a Ray cluster: connection, token, answers
    http        requests to a server, with a limit on all that it can do
    logs        the log of a job as it grows
    package     the files that a job gets
    python.sh   the interpreter of a job

elsewhere, a file for the scheduler and the same six actions by its commands:

    scheduler   the size of a node, placeholders, the scheduler's commands
    slurm       with slurm.sh, and symmetric.sh for whole nodes
    kubernetes  a RayJob, whose attempts are `attempt`

everywhere:

    preflight   checks of every node, on the cluster, before the first trial
    fetch       a study's folder, copied here
"""
