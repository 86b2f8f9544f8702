"""report.html: a study as one page that needs nothing else, for a screen, a phone and paper.

analysis --> texts, the figures as SVG, tables --> results/NAME/report.html
"""

import io
import re
import shlex
from base64 import b64encode
from collections.abc import Iterator
from html import escape
from itertools import chain
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from moe.console import printable
from moe.files import read_regular
from study.analyze.analysis import Analysis
from study.analyze.chains import tree
from study.analyze.classes import classes
from study.analyze.drawing import figures
from study.analyze.figures import PLOTS
from study.analyze.marks import with_words
from study.analyze.markup import table, terms
from study.analyze.report import estimated, notes
from study.analyze.tables import settings, standing
from study.confirm.outcome import Outcome, read_outcome
from study.confirm.plan import CHOICE, confirmations
from study.confirm.report import headline
from study.confirm.report import report as confirmed
from study.files import write_text
from study.select.choice import Choice, brief, points, shown
from study.study import FAILED

MOST_ROWS = 1000  # in the table of trials; with more of them the figures are pictures
STYLE = (Path(__file__).parent / "report.css").read_text("utf-8")
#: a click on a heading sorts the table by it, numbers as numbers
SORT = """
document.querySelectorAll("table.sortable th").forEach(head => head.onclick = () => {
  const column = head.cellIndex, body = head.closest("table").tBodies[0], down = head.classList.toggle("down") ? -1 : 1;
  const value = row => row.cells[column].textContent, number = row => parseFloat(value(row));
  [...body.rows].sort((a, b) => down * (number(a) - number(b) || value(a).localeCompare(value(b))))
    .forEach(row => body.append(row));
});
"""
#: the words of the mark that is nearest to the mouse or the finger; without script the browser shows it
HOVER = """
const note = document.createElement("pre");
note.id = "note";
window.onbeforeprint = () => document.querySelectorAll("main > details").forEach(words => words.open = true);
document.querySelectorAll("figure svg").forEach(picture => {
  const marks = [...picture.querySelectorAll("use > title")].map(title => [title.parentNode, title.textContent]);
  marks.forEach(([mark]) => mark.replaceChildren());
  const show = (mark, words) => {
    marks.forEach(([each]) => each.classList.toggle("near", each === mark));
    if (!mark) return note.remove();
    note.textContent = words;
    document.body.append(note);
  };
  picture.onpointermove = picture.onpointerdown = event => {
    let least = 30, found = [];
    for (const each of marks) {
      const box = each[0].getBoundingClientRect();
      const far = Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
      if (far < least) [least, found] = [far, each];
    }
    note.style.top = `${event.pageY + 24}px`;
    show(...found);
  };
  picture.onpointerleave = () => show();
});
"""


def write_report(analysis: Analysis) -> str:
    """Write report.html into the study's folder, where the figures are already; that it was, in words.

    Raises:
        FolderError: the result of a confirmation is damaged.
        OSError: it cannot be written.
    """
    path = analysis.folder.path / "report.html"
    write_text(path, page(analysis))
    return f"As one page to read and to send: {path}"


def page(analysis: Analysis) -> str:
    """The page."""
    title = escape(analysis.study.name)
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>"
    )
    outcome = _newest_outcome(analysis)
    sections = (
        _verdict(analysis, outcome),
        _figures(analysis),
        _cost(analysis),
        classes(analysis, outcome if outcome and _of_choice(outcome, analysis.choice) else None),
        _tables(analysis),
    )
    body = "\n".join(chain([f"<h1>{title}</h1>"], *sections))
    return printable(f"{head}\n<body><main>{body}</main><script>{SORT}{HOVER}</script></body></html>\n")


def _newest_outcome(analysis: Analysis) -> Outcome | None:
    """What the newest confirmation found; None without one."""
    for confirmation in [each for each in confirmations(analysis.folder) if each.result.exists()][-1:]:
        return read_outcome(confirmation.result)
    return None


def _of_choice(outcome: Outcome, choice: Choice | None) -> bool:
    """Whether a confirmation is of the config that is chosen now, whatever its seeds."""
    return choice is not None and outcome.configs[CHOICE].config.replace(seed=choice.config.seed) == choice.config


def _verdict(analysis: Analysis, outcome: Outcome | None) -> Iterator[str]:
    choice = analysis.choice
    if outcome:
        if not _of_choice(outcome, choice):
            other = escape(brief(outcome.configs[CHOICE].config))
            yield f'<p class="first">The newest confirmation is of another config than is chosen now: {other}.</p>'
        yield f'<p class="first">{escape(headline(outcome))}</p>'
        words = escape(confirmed(outcome, analysis.study.dataset))
        yield f"<details><summary>The confirmation</summary><pre>{words}</pre></details>"
    yield f'<p class="first">{escape(choice.why if choice else "No trial is complete, so nothing is chosen.")}</p>'
    if choice:
        half = f" ± {50 * (choice.interval[1] - choice.interval[0]):.2f}" if choice.interval else ""
        numbers = {
            "chosen config": settings(choice.config, analysis.study.space),
            f"estimated {choice.objective.replace('_', ' ')}": shown(choice.estimate, choice.objective) + half,
            "mixture": f"{choice.mixture_accuracy:.2%}",
            "its baseline": f"{choice.baseline_accuracy:.2%}",
        }
        if choice.reference_accuracy is not None and choice.over_reference is not None:
            numbers["best baseline"] = f"{choice.reference_accuracy:.2%}"
            numbers["over the best baseline"] = f"{points(choice.over_reference)} points"
        yield terms(numbers.items())
    yield f"<p>{escape(standing(analysis.study, analysis.records))}</p>"
    yield f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes(analysis))}</ul>"


def _figures(analysis: Analysis) -> Iterator[str]:
    if len(analysis.complete) > MOST_ROWS:  # marks that nobody can tell apart, at seconds and megabytes
        for name, (title, _) in PLOTS.items():
            if (path := analysis.folder.path / "figures" / f"{name}.png").exists():
                picture = b64encode(read_regular(path)).decode()
                yield f'<figure><img alt="{escape(title)}" src="data:image/png;base64,{picture}"></figure>'
        return
    for name, figure in figures(analysis, titled=False).items():
        yield f"<h2>{escape(PLOTS[name][0])}</h2><figure>{_svg(figure)}</figure>"


def _cost(analysis: Analysis) -> Iterator[str]:
    if found := tree(analysis):
        yield "<h2>What was trained once and read many times</h2>"
        yield "<p>A stage is trained once for each network, what it learns from, and seed; every trial that needs it "
        yield "reads it. A click on a line shows its chains.</p>"
        yield found


def _svg(figure: Figure) -> str:
    """The figure as SVG of any width, its marks with words to be seen under the mouse."""
    file = io.StringIO()
    figure.savefig(
        file,
        format="svg",
        bbox_inches="tight",
        transparent=True,
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1
    )
    return with_words(text)


def _tables(analysis: Analysis) -> Iterator[str]:
    if analysis.complete:
        yield from _trials(analysis)
    if failed := analysis.of(FAILED):
        rows = [[str(one.trial), settings(one.config, analysis.study.space), str(one.error)] for one in failed]
        yield f"<h2>{len(failed)} failed trials</h2>{table(['trial', 'config', 'error'], rows[:MOST_ROWS], 'texts')}"
    yield f"<h2>Where it comes from</h2>{terms(_provenance(analysis))}"
    folder = shlex.quote(str(analysis.folder.path))
    reproduce = f"python -m study.reproduce {folder}\n" if analysis.complete else ""
    yield "<h2>To train the choice again and compare every number, and to make this page</h2>"
    yield f"<pre>{escape(reproduce)}{escape(f'python -m study.analyze {folder}')}</pre>"


def _trials(analysis: Analysis) -> Iterator[str]:
    """The complete trials, those of the configs with the highest estimates first."""
    fit, objective, names = analysis.best, analysis.study.objective, list(analysis.study.space.grids)
    order = np.lexsort((analysis.values(objective), fit.estimate[fit.config_of]))[::-1][:MOST_ROWS]
    heads = ["trial", f"estimate of {objective.replace('_', ' ')}", "gain", "over best baseline", "mixture", "baseline"]
    rows = []
    for place in order:
        record = analysis.complete[place]
        score, reference = record.done.score, analysis.study.reference_accuracy(record.config)
        rows.append(
            [
                str(record.trial),
                estimated(analysis, fit.config_of[place]),
                points(score.gain),
                "" if reference is None else points(score.mixture_accuracy - reference),
                f"{100 * score.mixture_accuracy:.2f}",
                f"{100 * score.baseline_accuracy:.2f}",
                *(str(getattr(record.config, name)) for name in names),
                str(record.config.seed),
                f"{record.done.totals.seconds:.1f}",
                f"{record.done.totals.seconds_reused:.1f}",
            ]
        )
    yield f"<h2>{len(analysis.complete)} complete trials</h2>"
    yield "<p>Gains and estimates in percentage points, accuracies in %. A click on a heading sorts."
    yield f" These are the first {MOST_ROWS}; trials.csv has all.</p>" if len(analysis.complete) > MOST_ROWS else "</p>"
    yield table([*heads, *names, "seed", "seconds", "seconds saved"], rows)


def _provenance(analysis: Analysis) -> Iterator[tuple[str, str]]:
    study = analysis.study
    yield "data", f"{study.source}; fingerprint {study.data[:16]}"
    grids = (f"{name} {', '.join(map(str, grid))}" for name, grid in study.space.grids.items())
    yield "space", f"{study.space.name}, {study.space.size} points: {'; '.join(grids) or 'nothing is searched'}"
    yield "search", f"{study.sampler} maximises {study.objective}, seed {study.seed}, {study.precision}"
    for one in study.reference:
        yield "reference", f"{settings(one.config, study.space)}: {one.accuracy:.2%}"
    yield "devices", ", ".join(sorted({record.done.device for record in analysis.complete})) or "none"
    for run in analysis.folder.read_runs():
        versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
        where = f"; on {', '.join(run.machine.values())}" if run.machine else ""
        words = f"{run.command}; commit {run.commit or 'unknown'}; {versions}{where}"
        yield f"run of {run.started:%Y-%m-%d %H:%M %Z}", words
