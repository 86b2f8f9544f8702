"""What a study's trials show: `python -m study.analyze results/NAME`.

analysis.py  a study's records with the model's estimates and the choice
report.py    the report for a terminal: choice, configs, notes; several studies compared
effects.py   effects and importances of parameters, grids that end too early
figures.py   the figures; drawing.py frames and saves them
html.py      report.html, as one file
analysis_json.py an analysis as JSON
format.py    tables and paragraphs of any width
tables.py    trials.csv, epochs.csv, best.json, summary.md
live.py      trials.csv, epochs.csv and study.db while a study runs
database.py  study.db, for Optuna and its dashboard
"""
