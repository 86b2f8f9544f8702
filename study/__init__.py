"""A hyperparameter study of the mixture of experts: `python -m study.run`, and its results in Python.

    from study import load
    study = load("results/NAME")
    study.trials    # a DataFrame with a row per trial
    study.epochs    # a row per trial, stage and epoch
    study           # the choice and the best trials, in a terminal or a notebook

Importing this package is cheap; pandas and Optuna are loaded with `load`. It lets numpy, if that is not imported yet,
use one thread for its matrices unless OPENBLAS_NUM_THREADS says otherwise.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.results import load

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # matrices are small: threads would wait for each other

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from study.results import load

        return load
    raise AttributeError(f"study has no {name!r}; it has {', '.join(__all__)}")
