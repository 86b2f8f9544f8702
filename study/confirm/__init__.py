"""A claim about a study's choice: fresh seeds, controls, and the test images, opened once.

__main__.py  the command
options.py   its options
plan.py      what is fixed before the test images are opened, and the records of its seeds
planning.py  which confirmation to go on with, or a new plan
price.py     what it costs and what it can resolve, from the study's records
seed.py      one seed of one config, in a worker
run.py       trains and predicts under Ray, and opens the test labels when the last seed has ended
outcome.py   records and labels to intervals, tests, verdict
report.py    that in words and tables
"""
