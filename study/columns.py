"""The columns of the results table: every field with a description, from the models that declare them."""

from dataclasses import dataclass

from moe.config import Config
from moe.result import Result, Score, Totals
from moe.schema import fields, kind
from study.study import Record

_PANDAS = {int: "Int64", float: "float64", bool: "boolean", str: "string"}
DERIVED = {
    "reference_accuracy": "of the best reference baseline with as many training examples, trained before the search",
    "fair_gain": "mixture minus the better of its baseline and the reference less the margin",
}


@dataclass(frozen=True)
class Column:
    """A column of trials.csv."""

    type: str  # of pandas
    meaning: str


def _columns() -> dict[str, Column]:
    found = {
        name: Column(_PANDAS.get(kind(field), "string"), field.description)
        for model in (Record, Config, Score, Totals, Result)
        for name, field in fields(model).items()
        if field.description
    }
    found["error"] = found.pop("error")  # last, since it is long
    return found | {name: Column("float64", meaning) for name, meaning in DERIVED.items()}


#: the columns of trials.csv by name, in order
COLUMNS = _columns()


def documentation() -> str:
    """The columns as a Markdown table."""
    rows = [f"| `{name}` | {column.type} | {column.meaning} |" for name, column in COLUMNS.items()]
    return "\n".join(["| column | type | meaning |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(documentation())
