"""What goes wrong around a study, as a table of faults with what is promised under each.

    python -m tests.faults [WORD]      prints the table, each fault with its verdict

A module `*_rows.py` holds the faults of one part of the project in `FAULTS`; `hostile.py` has the inputs and the files
that every decoder and every reader is given.
"""
