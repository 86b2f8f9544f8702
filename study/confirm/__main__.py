"""`python -m study.confirm results/NAME`: fresh seeds and controls of the choice, scored once on the test images."""

from study.early import hold_signals

if __name__ == "__main__":
    hold_signals()  # before the rest is imported

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING

from moe.cli import refuse
from moe.config import NOTEBOOK
from moe.console import Exit, emit
from study.confirm.options import PROGRAM, ConfirmOptions, parse, parser
from study.definition import refuse_data_for_shapes
from study.folder import Folder
from study.guard import guarded
from study.search.resources import local
from study.search.stopping import Stop
from study.study import Study

if TYPE_CHECKING:
    from study.confirm.plan import Confirmation

__all__ = ["main", "parser"]


def main(arguments: Sequence[str] | None = None) -> Exit:
    """Run the command; the exit code."""
    return guarded(PROGRAM, parse, _run, arguments)


def _run(options: ConfirmOptions, command: str, stop: Stop) -> Exit:
    folder = Folder(options.folder)
    study = folder.read_study()
    if study.protocol == NOTEBOOK:
        refuse(
            PROGRAM, f"study {study.name} has protocol notebook, whose trials used the test images; expected holdout"
        )
    refuse_data_for_shapes(PROGRAM, study, options.data)
    resources = local(options, study.space.resources) if options.address == "local" else None
    # pandas and Optuna, once the options are checked; and threads must not start before signals are received
    from study.confirm.plan import digest
    from study.confirm.planning import planned

    with nullcontext() if options.dry_run else folder.locked():
        records = folder.read_records(study)
        confirmation, plan = planned(options, folder, study, records, command)
        if confirmation.result.exists():
            same = plan.choice == digest(folder.path / "best.json")
            what = "is finished" if same else "is finished, and best.json has changed since"
            again = f"{confirmation.path} {what}; --again makes another confirmation, with other seeds"
            return _show(options, study, confirmation, again)
        from study.confirm.run import confirm  # torch and Ray, once the plan stands

        with redirect_stdout(sys.stderr) if options.print_json else nullcontext():
            code = confirm(options, study, records, (confirmation, plan), command, resources, stop)
        written = f"Everything is in {confirmation.path}: plan.json, result.json, a record per seed and config"
        return _show(options, study, confirmation, written) if confirmation.result.exists() else code


def _show(options: ConfirmOptions, study: Study, confirmation: "Confirmation", note: str) -> Exit:
    from study.confirm.outcome import read_outcome
    from study.confirm.report import report

    outcome = read_outcome(confirmation.result)
    if options.print_json:
        emit(json.dumps(outcome.as_json(), indent=2))
    else:
        emit(f"\n{report(outcome, study.dataset)}\n\n{note}")
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(main())
