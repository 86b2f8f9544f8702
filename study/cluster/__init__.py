"""A study handed to a cluster: `python -m study.submit --on ray --address URL -- --trials 200`.

    options     the command line, refused where it is wrong before anything is contacted
    contact     whether the cluster answers, and whom it lets in; plain HTTP
    package     the files that it gets
    probe       asks every node, as a job on the cluster: node.py is what it asks, checks.py what follows
    jobs        Ray's jobs: submit, stop, list, follow
    launching   what comes before a study is submitted, and the submission
    telling     what is said of a study; following.py reads its log as it grows
    actions     what the six commands do with these
    fetching    the study's folder, brought here; sending.py is the part that runs on the cluster

Jobs are the only way in: nothing but the dashboard's URL has to be reached from here.
"""
