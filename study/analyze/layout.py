"""Tables as plain text, for terminals and pipes of any width."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

MOST_WIDE = 120  # of prose; a table takes what it needs, where that is there
GAPS = "  ", " "  # the second where the first would cost a column


@dataclass(frozen=True)
class Column:
    """A table's column; its cells are on the right of it, or on the left."""

    head: str
    cells: Sequence[str]
    spare: int = 0  # where room is short the largest goes first; 0 always stays
    left: bool = False

    @property
    def width(self) -> int:
        """As wide as the widest cell, and as the longest word of the head."""
        return max(map(len, (*self.cells, *map(str.rstrip, _words(self.head)))))

    @property
    def head_lines(self) -> list[str]:
        """The head, broken after spaces and underscores so that it makes the column no wider than its words."""
        lines = [""]
        for word in _words(self.head):
            if lines[-1] and len(lines[-1] + word.rstrip()) > self.width:
                lines.append("")
            lines[-1] += word
        return [line.strip() for line in lines]

    def placed(self, text: str) -> str:
        """The text, filled up to the column's width."""
        return text.ljust(self.width) if self.left else text.rjust(self.width)


def _words(head: str) -> list[str]:
    return re.findall(r"[^ _]*[ _]?", head)[:-1] or [""]


def table(columns: Sequence[Column], width: int) -> tuple[str, list[str]]:
    """A table no wider than that if closing up or leaving out columns can do it, and the heads of those left out."""
    kept, gap = list(columns), GAPS[0]
    while _width(kept, gap) > width:
        gap = GAPS[1]
        spare = max(kept, key=lambda column: column.spare)
        if _width(kept, gap) <= width or not spare.spare:
            break
        kept.remove(spare)
    heads = [column.head_lines for column in kept]
    height = max(map(len, heads))
    filled = [[""] * (height - len(head)) + head for head in heads]  # heads stand on the rule
    rows = [*zip(*filled, strict=True), ["-" * column.width for column in kept]]
    rows += zip(*(column.cells for column in kept), strict=True)
    lines = [gap.join(column.placed(cell) for column, cell in zip(kept, row, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines), [column.head for column in columns if column not in kept]


def _width(columns: Sequence[Column], gap: str) -> int:
    return sum(column.width + len(gap) for column in columns) - len(gap)


def paragraph(sentences: str, width: int, bullet: str = "") -> str:
    """Prose, wrapped to be read with ease; neither names nor numbers and their % are broken."""
    wrapped = textwrap.fill(
        sentences.replace(" %", "\0%"),
        min(width, MOST_WIDE),
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapped.replace("\0", " ")
