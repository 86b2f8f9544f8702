"""What a study's trials say: `python -m study.analyze results/NAME`. It reads records and writes figures, nothing else.

model.py       what each config is expected to reach, smoothed over all trials
luck.py        by how much the largest of many noisy values flatters itself
importance.py  which parameters set the best trials apart
analysis.py    a study's records, with all of these
layout.py      tables for a terminal
ranking.py     the configs as a table, best first
effects.py     the effects as a table, and grids that end too early
text.py        what is said of one study
compare.py     what is said of several
plots.py       the figures over trials
panels.py      the figure of effects
figures.py     their look, their caption, their files
"""
