"""Pieces of a page: tables, shaded tables, terms with their values. Every text is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

MOST_SHADE = 0.5  # how opaque the strongest colour behind a number is

Cell = tuple[str, float]  # a number as it is shown, and its shade from -1, all orange, to 1, all blue


def terms(pairs: Iterable[tuple[str, str]]) -> str:
    """Names with what they are."""
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in pairs)}</dl>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], of: str = "numbers") -> str:
    """A table of numbers or of texts that a click on a heading sorts."""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return f'<div class="scroll tall"><table class="sortable {of}">{_head(heads)}<tbody>{body}</tbody></table></div>'


def shaded(title: str, heads: Sequence[str], rows: Iterable[tuple[str, Sequence[Cell]]]) -> str:
    """A table whose rows have names, with a colour behind each number."""
    body = "".join(f"<tr><th>{escape(name)}</th>{''.join(map(_shaded, cells))}</tr>\n" for name, cells in rows)
    found = f'<div class="scroll"><table class="shaded">{_head(["", *heads])}<tbody>{body}</tbody></table></div>'
    return f"<section><h3>{escape(title)}</h3>{found}</section>"


def _head(names: Sequence[str]) -> str:
    cells = "".join(f"<th>{escape(name).replace('_', '_<wbr>')}</th>" for name in names)
    return f"<thead><tr>{cells}</tr></thead>"


def _shaded(cell: Cell) -> str:
    text, shade = cell
    colour = "0 114 178" if shade > 0 else "213 94 0"
    return f'<td style="background:rgb({colour}/{MOST_SHADE * abs(shade):.2f})">{escape(text)}</td>'
