"""The page that a study is read and sent as."""

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest

from study.analyze.analysis import examine
from study.analyze.drawing import figures
from study.analyze.html import HOVER, SORT, page, write_report
from study.select.model import fit
from study.space import PRESETS
from tests.analyze_helpers import search, write
from tests.study_helpers import a_record, references


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    failed = a_record(61, state="failed", test_examples=2000).replace(error="<b>the loss & more</b> is nan")
    records = [*search(60), failed]
    known = tuple(one for size in (1000, 2500, 5000) for one in references(0.5, size))
    folder = write(tmp_path_factory.mktemp("of") / "s", records, space=PRESETS["notebook"], reference=known)
    return examine(folder.path)


@pytest.fixture(scope="module")
def html(analysis):
    return page(analysis)


def test_the_page_needs_nothing_else_and_is_small(html):
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"|url\((?!#)|@import', html)
    assert len(html) < 2_000_000


def test_the_choice_against_the_reference_is_its_first_paragraph(html, analysis):
    first = re.search(r'<p class="first">(.*?)</p>', html)[1]
    assert "best baseline" in first.split(". ")[0]
    assert f"Trial {analysis.choice.trials[0]}" in first


def test_every_trial_has_its_config_at_its_mark_and_a_row(html):
    of_trials = ("Gain against the baseline", "The trials, and the highest", "Mixture against baseline", "Time trained")
    for title in of_trials:
        figure = re.search(rf"<h2>{title}.*?</figure>", html, flags=re.S)[0]
        assert len(re.findall(r"<use [^>]*><title>trial \d+, seed", figure)) == 60
    assert 'id="marks' not in html.replace("'", '"')
    assert html.count("<tr><td>") == 61


def test_effects_and_curves_have_their_numbers_at_their_marks(html, analysis):
    effects, curves = (re.search(rf"<h2>{title}.*?</figure>", html, flags=re.S)[0] for title in ("Effects", "Learning"))
    words = re.findall(r"<use [^>]*><title>(.*?)</title>", effects)
    levels = sum(len(set(column)) for column in analysis.levels.T.tolist())
    assert len(words) == levels * len(analysis.measures)
    assert all(re.fullmatch(r"\w+ \w+: [+-]\d+\.\d\d \([+-][\d.]+ to [+-][\d.]+\) points", each) for each in words)
    words = re.findall(r"<use [^>]*><title>(.*?)</title>", curves)
    assert words
    assert all(re.fullmatch(r"trial \d+( and \d+ more)?: epoch \d+, \d+\.\d\d %", each) for each in words)


def test_texts_of_others_are_escaped(html):
    assert "&lt;b&gt;the loss &amp; more&lt;/b&gt;" in html
    assert "<b>the loss" not in html


def test_every_figure_is_well_formed_and_has_no_size_of_its_own(html):
    figures = re.findall(r"<svg.*?</svg>", html, flags=re.S)
    assert len(figures) == 6
    for each in figures:
        root = ET.fromstring(each)
        assert "width" not in root.attrib
        assert "viewBox" in root.attrib


CLICK = """
const rows = texts => texts.map(text => ({cells: [{}, {textContent: text}]}));
const tables = [["1", "2"], ["b", "c", "a"]].map(texts => ({rows: rows(texts), append(row) {
  this.rows.splice(this.rows.indexOf(row), 1); this.rows.push(row); }}));
const heads = tables.flatMap(body => [0, 1].map(cellIndex => ({cellIndex, classList: {toggle: () => false},
  closest: () => ({tBodies: [body]})})));
const document = {querySelectorAll: () => heads};
%s
heads[3].onclick();
console.log(tables[1].rows.map(row => row.cells[1].textContent).join(""));
"""


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node.js")
def test_a_click_sorts_a_second_table_by_its_own_columns():
    done = subprocess.run(["node", "-e", CLICK % SORT], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("abc\n", "")


POINT = """
const pre = {remove() { pre.shown = false; }, style: {}};
const mark = (x, words) => ({textContent: words, parentNode: {
  replaceChildren() { this.plain = true; }, classList: {toggle(name, on) { this.near = on; }},
  getBoundingClientRect: () => ({x, y: 0, width: 2, height: 2})}});
const marks = [mark(0, "first"), mark(20, "second")], picture = {querySelectorAll: () => marks}, window = {};
const body = {append(it) { it.shown = true; }};
const document = {createElement: () => pre, querySelectorAll: () => [picture], body};
%s
picture.onpointermove({clientX: 15, clientY: 1, pageY: 1});
const near = [marks[1].parentNode.classList.near, pre.textContent, pre.shown, marks[0].parentNode.plain];
picture.onpointermove({clientX: 90, clientY: 1, pageY: 1});
console.log(...near, pre.shown, marks[1].parentNode.classList.near);
"""


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node.js")
def test_the_mark_nearest_to_the_mouse_shows_its_trial_and_far_from_all_none_does():
    done = subprocess.run(["node", "-e", POINT % HOVER], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("true second true true false false\n", "")


def test_the_running_estimate_is_computed_once_for_figures_and_page(tmp_path, monkeypatch):
    analysis = examine(write(tmp_path / "s", search(5), space=PRESETS["notebook"]).path)
    calls = []
    monkeypatch.setattr("study.analyze.analysis.fit", lambda trials: calls.append(trials) or fit(trials))
    for titled in (True, False):
        figures(analysis, titled)
    assert len(calls) == len(analysis.measures) + len(analysis.running_estimate[0])


def test_it_says_how_to_reproduce_the_choice(html, analysis):
    assert f"python -m study.reproduce {analysis.folder.path}" in html


@pytest.mark.parametrize("records", [[], [a_record(1, state="failed")], [a_record(1)]])
def test_a_study_with_little_has_a_page_too(tmp_path, records):
    folder = write(tmp_path / "s", records)
    write_report(examine(folder.path))
    assert (folder.path / "report.html").read_text().rstrip().endswith("</html>")
