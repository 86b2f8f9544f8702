"""The columns of trials.csv and epochs.csv: every field with a description, from the models that declare them."""

from dataclasses import dataclass

from moe.config import Config
from moe.result import Epoch, Result, Score, Totals
from moe.schema import Model, fields, kind
from study.study import Record

_PANDAS = {int: "Int64", float: "float64", bool: "boolean", str: "string"}
DERIVED = {
    "reference_accuracy": "of the best reference baseline with as many training examples, trained first, to its end",
    "fair_gain": "mixture minus the better of its baseline and the reference less the margin",
}


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    type: str  # of pandas
    meaning: str


def _described(*models: type[Model]) -> dict[str, Column]:
    return {
        name: Column(_PANDAS.get(kind(field), "string"), field.description)
        for model in models
        for name, field in fields(model).items()
        if field.description
    }


def _columns() -> dict[str, Column]:
    found = _described(Record, Config, Score, Totals, Result)
    found["error"] = found.pop("error")  # last, since it is long
    return found | {name: Column("float64", meaning) for name, meaning in DERIVED.items()}


#: the columns of trials.csv by name, in order
COLUMNS = _columns()


#: the columns of epochs.csv by name, in order
EPOCHS = {
    "trial": COLUMNS["trial"],
    "stage": Column("string", "baseline, gate, artificial, natural or mixture"),
    "epoch": Column("Int64", "of the stage, from 1"),
    **_described(Epoch),
    "reused": Column("boolean", "whether it came from the store, trained by another trial"),
    "chosen": Column("boolean", "whether the trial used the weights after this epoch"),
}
TABLES = {"trials.csv": COLUMNS, "epochs.csv": EPOCHS}


def documentation() -> str:
    """The columns of both tables in Markdown."""
    return "\n\n".join(f"## Columns of {name}\n\n{_markdown(columns)}" for name, columns in TABLES.items())


def _markdown(columns: dict[str, Column]) -> str:
    rows = [f"| `{name}` | {column.type} | {column.meaning} |" for name, column in columns.items()]
    return "\n".join(["| column | type | meaning |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(documentation())
