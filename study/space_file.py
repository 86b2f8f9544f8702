"""The one decoder of YAML: a mapping from names to values or lists of values; under `resources` a list of mappings.

Aliases, merges, tags, other structures, numbers of base 8 or 60 and a key given twice are refused, not guessed at.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moe.files import read_regular

MOST_BYTES = 1 << 20
DEEPEST = 4  # more levels than that are read only so that a sentence can name them
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "null": "empty"}


def read_mapping(path: Path) -> dict[str, Any]:
    """The entries of a YAML file; raises a ValueError if it cannot be read, or is anything but such a mapping."""
    import yaml  # a preset does without

    try:
        text = read_regular(path, MOST_BYTES).decode("utf-8-sig")
        _check_events(text)
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise ValueError("the file is not a mapping; expected lines like `epochs: [1, 2, 4]`")
        return dict(_entries(loader, root))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot be read as YAML: {' '.join(str(reason).split())}") from None


def read_scalar(name: str, text: str) -> Any:
    """The value of one field as a YAML file would have it; raises a ValueError if it is none, or more than one."""
    import yaml

    try:
        _check_events(text)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        return None if node is None else _value(loader, name, node)
    except yaml.YAMLError as error:
        raise ValueError(f"cannot be read as YAML: {' '.join(str(error).split())}") from None


def _check_events(text: str) -> None:
    """Refuse aliases, which can make a small file a huge value, and depth, before any value is made."""
    import yaml

    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if anchor := getattr(event, "anchor", None):
            raise ValueError(f"it has the anchor or alias {anchor}; expected each value where it is used")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"cannot be read as YAML: it has more than {DEEPEST} levels; expected a list of values")


def _entries(loader: Any, root: Any) -> Iterator[tuple[str, Any]]:
    seen = set[str]()
    for key, node in root.value:
        name = str(key.value)
        if key.id != "scalar" or key.tag.endswith(":merge"):
            raise ValueError(f"{name[:40]} is no name; expected lines like `epochs: [1, 2, 4]`, without merges")
        if name in seen:
            raise ValueError(f"{name} is given twice; expected each field once")
        seen.add(name)
        if name == "resources":
            yield name, _rules(loader, node)
            continue
        if node.id == "mapping":
            within = ", ".join(str(inner.value) for inner, _ in node.value)[:80]
            raise ValueError(f"{name} is a mapping ({within}); expected a value or a list of values, as in [1, 2, 4]")
        if node.id == "sequence" and not node.tag.endswith(":seq"):
            raise ValueError(f"{name} is of the type {node.tag[:80]}; expected a list of values, as in [1, 2, 4]")
        items = node.value if node.id == "sequence" else [node]
        values = [_value(loader, name, item) for item in items]
        yield name, values if node.id == "sequence" else values[0]


def _rules(loader: Any, node: Any) -> list[dict[str, Any]]:
    if node.id != "sequence" or any(item.id != "mapping" for item in node.value):
        raise ValueError("resources are no list of rules; expected lines like `- {epochs: 30, gpus: 1}`")
    return [dict(_entries(loader, item)) for item in node.value]


def _value(loader: Any, name: str, node: Any) -> Any:
    """The value of a scalar."""
    if node.id != "scalar":
        raise ValueError(f"{name} has a {node.id} in its list; expected a list of values, as in [1, 2, 4]")
    kind = node.tag.rpartition(":")[2]
    if kind not in _KINDS or not node.tag.startswith("tag:yaml.org,2002:"):
        raise ValueError(f"{name} has {node.value[:40]!r}, which is of the type {node.tag}; expected numbers or flags")
    if kind == "int" and not _WHOLE.fullmatch(node.value):
        raise ValueError(f"{name} has {node.value[:40]}; expected a decimal number without leading zeros")
    if kind == "float" and ":" in node.value:
        raise ValueError(f"{name} has {node.value[:40]}, of base 60; expected a decimal number")
    try:
        return loader.construct_object(node)
    except (ValueError, KeyError, AttributeError, IndexError):
        raise ValueError(f"{name} has {node.value[:40]!r}; expected {_KINDS[kind]}") from None
