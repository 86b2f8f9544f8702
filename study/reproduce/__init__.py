"""Train one trial of a study again and compare every number with its record: `python -m study.reproduce`.

options --> original.py: which record, and the run that made it
        --> retrain.py: train from nothing; the only module here that loads torch
        --> compare.py: conditions and numbers, then and now --> report.py --> exit code
"""
