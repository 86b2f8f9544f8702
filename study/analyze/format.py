"""Text for terminals and pipes of any width: tables that leave out what does not fit, and paragraphs."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from moe.console import table

GAP = 2
MOST_WIDE = 120  # of a paragraph


@dataclass(frozen=True)
class Column:
    """A table's column."""

    name: str
    cells: Sequence[str]
    spare: int = 0  # where the table is too wide, the column with the largest goes first; 0 always stays

    @cached_property
    def heading(self) -> list[str]:
        """The name, broken after spaces and underscores into lines no longer than the longest word or cell."""
        words = self.name.replace("_", "_ ").split(" ")
        lines = textwrap.wrap(" ".join(words), self._longest(*words) + 1, break_long_words=False) or [""]
        return [line.replace("_ ", "_").strip() for line in lines]

    @property
    def width(self) -> int:
        """Of its longest line, and the gap after it."""
        return self._longest(*self.heading) + GAP

    def _longest(self, *words: str) -> int:
        return max(len(line) for text in (*words, *self.cells) for line in text.split("\n"))


def fitted(columns: Sequence[Column], width: int, left: int = 1) -> tuple[str, list[str]]:
    """A table that fits a width if leaving out columns can do it, and the names of those that are left out.

    Args:
        left: how many columns are aligned to the left.
    """
    kept = list(columns)
    while sum(column.width for column in kept) - GAP > width and any(column.spare for column in kept):
        kept.remove(max(kept, key=lambda column: column.spare))
    height = max(len(column.heading) for column in kept)
    headings = ["\n" * (height - len(column.heading)) + "\n".join(column.heading) for column in kept]
    rows = zip(*(column.cells for column in kept), strict=True)
    return table(headings, rows, left, width), [column.name for column in columns if column not in kept]


def paragraph(text: str, width: int, bullet: str = "") -> str:
    """Prose, wrapped; neither names nor numbers and their % are broken."""
    wrapped = textwrap.fill(
        text.replace(" %", "\0%"),
        min(width, MOST_WIDE),
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapped.replace("\0", " ")


def heading(title: str) -> str:
    """A title, underlined."""
    return f"{title}\n{'=' * len(title)}"
