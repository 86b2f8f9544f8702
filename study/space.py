"""What a study searches: grids over the fields of a config, as a preset or from a YAML file.

    epochs: [1, 2, 4, 8]             a list is a grid, searched in its order
    use_large_experts: [no, yes]
    test_examples: 2000              a scalar is fixed
    resources: ...                   what some configs get of the machines: see `study.rules`

A point is one index into each grid: samplers see small ordered integers, and stages of different trials
coincide. Importing this file is cheap (no torch, Ray or Optuna), so that a wrong space is refused early.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from moe.config import Config, Protocol
from moe.files import expanded
from moe.schema import Model, fields, kind
from study.rules import Rule
from study.space_file import read_mapping, read_scalar

#: how a space can be searched; here, so that options can list them without Optuna
Sampler = Literal["auto", "tpe", "gp", "random", "qmc", "grid"]

NOTEBOOK = {  # CPU scale
    "epochs": [1, 2, 3, 4, 6, 8],
    "train_examples": [1000, 2500, 5000],
    "test_examples": 2000,
    "use_large_experts": [False, True],
    "use_large_gating_mlp": [False, True],
    "use_large_baseline_classifier": [False, True],
}
FULL = {  # GPU scale
    **NOTEBOOK,
    "epochs": [1, 2, 4, 8, 16, 30],
    "train_examples": [5000, 10000, 20000, 30000, 45000],
    "test_examples": 5000,
}

MOST_POINTS = 1_000_000

#: fields of a config that belong to the study as a whole
_ELSEWHERE = {name: f"--{name}" for name in ("seed", "protocol", "precision")}
_TYPES = {name: kind(field) for name, field in fields(Config).items() if name not in _ELSEWHERE}


class Space(Model):
    """The fields of a config that are searched, each with its grid, and those that are fixed.

    Fields stand in the order in which `Config` declares them, whatever order they are given in.

    Raises:
        ValueError: a field is unknown, set elsewhere or given twice; a grid has a double or fewer than two
            values; there are more than a million points. `read` checks the values.
    """

    name: str  # the preset's name, or the YAML file's stem
    grids: dict[str, tuple[Any, ...]]
    fixed: dict[str, Any]
    resources: tuple[Rule, ...] = ()  # the first that fits a config decides; what a trial finds does not depend on them

    @field_validator("grids")
    @classmethod
    def _check_grids(cls, grids: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        return {name: _grid(name, values) for name, values in _ordered(grids)}

    @field_validator("fixed")
    @classmethod
    def _check_fixed(cls, fixed: dict[str, Any]) -> dict[str, Any]:
        return {name: _plain(name, value) for name, value in _ordered(fixed)}

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if both := sorted(self.grids.keys() & self.fixed.keys()):
            raise ValueError(f"{both[0]} is both searched and fixed; expected one of the two")
        if self.size > MOST_POINTS:
            raise ValueError(f"the grids have {self.size} points; expected at most {MOST_POINTS}")
        for name, values in (each for rule in self.resources for each in _ordered(rule.when)):
            if absent := [value for value in values if value not in self.all(name)]:
                raise ValueError(
                    f"resources have a rule for {name} {absent[0]!r}, which no trial has; expected "
                    f"{' or '.join(map(str, self.all(name)))}"
                )
        return self

    @property
    def size(self) -> int:
        """The number of points; 1 where nothing is searched."""
        return math.prod(map(len, self.grids.values()))

    def points(self) -> Iterator[dict[str, int]]:
        """Every point once; the last field changes fastest."""
        return map(self.at, range(self.size))

    def position(self, point: Mapping[str, int]) -> int:
        """The point's place in `points`, from 0."""
        place = 0
        for name, grid in self.grids.items():
            place = place * len(grid) + _index(name, grid, point)
        return place

    def at(self, position: int) -> dict[str, int]:
        """The point at a place in `points`; the inverse of `position`."""
        point = {}
        for name in reversed(list(self.grids)):
            position, point[name] = divmod(position, len(self.grids[name]))
        return {name: point[name] for name in self.grids}

    def values(self, point: Mapping[str, int]) -> dict[str, Any]:
        """The config fields that a point stands for, the fixed ones included.

        Raises:
            KeyError: the point lacks a searched field.
            ValueError: an index is outside its grid.
        """
        return {**self.fixed, **{name: grid[_index(name, grid, point)] for name, grid in self.grids.items()}}

    def point(self, config: Config) -> dict[str, int]:
        """The point of a config, the inverse of `values`; fields that the space does not name play no part.

        Raises:
            ValueError: a value is not on its grid, or is not the fixed one.
        """
        for name, value in self.fixed.items():
            if (found := getattr(config, name)) != value:
                raise ValueError(f"{name} is {found!r}; space {self.name} fixes it at {value!r}")
        for name, grid in self.grids.items():
            if (found := getattr(config, name)) not in grid:
                raise ValueError(f"{name} is {found!r}; space {self.name} has {', '.join(map(str, grid))}")
        return {name: grid.index(getattr(config, name)) for name, grid in self.grids.items()}

    @property
    def default(self) -> dict[str, int]:
        """The point nearest to the default config: equal flags, and each number the fewest times larger or smaller."""
        wanted = dict(Config())
        distances = {name: [_distance(value, wanted[name]) for value in grid] for name, grid in self.grids.items()}
        return {name: each.index(min(each)) for name, each in distances.items()}

    def least(self, name: str) -> int:
        """The smallest value that a whole-number field takes in the space."""
        return int(min(self.all(name)))

    def all(self, name: str) -> tuple[Any, ...]:
        """Every value of a field: its grid, what it is fixed at, or the config's default."""
        return self.grids.get(name) or (self.fixed.get(name, getattr(Config(), name)),)


def parse(name: str, entries: Mapping[str, Any]) -> Space:
    """A space from fields and what each may be: a list is searched, a scalar or a list of one is fixed.

    Raises:
        ValueError: as for `Space`, or a list is empty.
    """
    entries, grids, fixed = dict(entries), {}, {}
    rules = tuple(map(_rule, entries.pop("resources", ())))
    for field, entry in _ordered(entries):
        if entry == []:
            raise ValueError(f"{field} is an empty list; expected at least one value")
        if isinstance(entry, list) and len(entry) > 1:
            grids[field] = tuple(entry)
        else:
            fixed[field] = entry[0] if isinstance(entry, list) else entry
    return Space(name=name, grids=grids, fixed=fixed, resources=rules)


def _rule(entries: Mapping[str, Any]) -> Rule:
    lists = {name: each if isinstance(each, list) else [each] for name, each in entries.items()}
    share = {name: entries[name] for name in ("cpus", "gpus") if lists.pop(name, None)}
    return Rule(when={name: tuple(_plain(name, each) for each in values) for name, values in _ordered(lists)}, **share)


def read(name_or_path: str, protocol: Protocol) -> Space:
    """A preset by its name, or the space in a YAML file, fit for a protocol.

    Every value is tried in a config, and so is every combination of smallest and largest values.

    Raises:
        ValueError: there is no such preset or file, or it is not a valid space; the sentence names the file,
            the field, the value and what is valid.
    """
    if name_or_path in PRESETS:
        return PRESETS[name_or_path]
    path = expanded(name_or_path)
    if not path.is_file():
        raise ValueError(f"{name_or_path!r} is neither a preset ({', '.join(PRESETS)}) nor a YAML file that exists")
    try:
        space = parse(path.stem, read_mapping(path))
        for point in _to_try(space):
            Config(protocol=protocol, **space.values(point))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return space


def _ordered(entries: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    """Fields of a space with their entries, in the order of the config.

    Raises:
        ValueError: a field is unknown, or set elsewhere.
    """
    for name in entries:
        if name in _ELSEWHERE:
            raise ValueError(f"{name} cannot be part of a space; it is given with {_ELSEWHERE[name]}")
        if name not in _TYPES:
            raise ValueError(f"{name!r} is not a field of a config; expected one of {', '.join(_TYPES)}")
    return [(name, entries[name]) for name in _TYPES if name in entries]


def _grid(name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(values) < 2:
        raise ValueError(f"the grid of {name} has {len(values)} values; expected 2 or more")
    grid = tuple(_plain(name, value) for value in values)
    if double := next((text for text, times in Counter(map(repr, grid)).items() if times > 1), None):
        raise ValueError(f"{name} has {double} more than once; expected each value once")
    return grid


def read_value(name: str, text: str) -> Any:
    """The value of one field as a space file would have it; raises a ValueError if it is none."""
    return _plain(name, read_scalar(name, text))


def _plain(name: str, value: Any) -> Any:
    """The value as its field takes it; the config refuses what cannot be converted."""
    if _TYPES.get(name) is not float or isinstance(value, bool):
        return value
    try:
        return float(value)  # YAML 1.1 reads 1e-3 as a word, and 1 as a whole number
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return value


def _index(name: str, grid: tuple[Any, ...], point: Mapping[str, int]) -> int:
    if not 0 <= (index := point[name]) < len(grid):
        raise ValueError(f"the index of {name} is {index}; expected 0 to {len(grid) - 1}")
    return index


def _distance(value: Any, wanted: Any) -> float:
    return float(value != wanted) if isinstance(value, bool) else abs(math.log(value / wanted))


def _to_try(space: Space) -> Iterator[dict[str, int]]:
    """Every value of every grid, then every combination of smallest and largest values."""
    first = dict.fromkeys(space.grids, 0)
    yield first
    for name, grid in space.grids.items():
        yield from ({**first, name: index} for index in range(len(grid)))
    ends = [(grid.index(min(grid)), grid.index(max(grid))) for grid in space.grids.values()]
    for corner in itertools.product(*ends):
        yield dict(zip(space.grids, corner, strict=True))


#: last, since a space checks itself with everything above
PRESETS = {"notebook": parse("notebook", NOTEBOOK), "full": parse("full", FULL)}
