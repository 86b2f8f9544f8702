"""Train one trial of a study again and hold every number against its record: `python -m study.reproduce`.

options --> original.py: which record, and the run that made it
        --> circumstances.py: what is other than it was then
        --> training, from nothing
        --> numbers.py: every number of both, and how far they are apart --> report.py --> exit code
"""
