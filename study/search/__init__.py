"""Trials under Ray Tune. Only this package and `study.cluster` import Ray.

    Proposals (Optuna or a grid)
        |
    Ledger <--> StudySearch --config--> Tune --> worker: study.search.worker.evaluate
                     ^                                |
                     +--- epochs, result or error ----+

Tune's own records, restore and tables are not used: the ledger's records are the study.
"""

import os

#: settings of Tune in this process, which it reads from the environment; set before Ray is imported
_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in a worker
    "RAY_AIR_NEW_OUTPUT": "0",  # no tables: the study prints its own
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV or TensorBoard files beside our records
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # `stopping` handles signals
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # the objective exists in a trial's last row only
    "TUNE_FORCE_TRIAL_CLEANUP_S": "5",  # seconds until a trial that is stopped in mid-epoch is killed
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own state is never read
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # they are in the records
    "TUNE_RESULT_BUFFER_LENGTH": "1",  # a trial's end is recorded at once
}
os.environ |= _ENVIRONMENT  # whatever the user's shell has: none of it is a matter of taste
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
for _name in ("TUNE_RESULT_DIR", "RAY_AIR_LOCAL_CACHE_DIR"):  # Tune refuses to run with these
    os.environ.pop(_name, None)
