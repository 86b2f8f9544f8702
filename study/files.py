"""Text files that appear whole, and JSON files that carry the checksum of what is in them.

{
  "sha256": "...",          of all bytes after this line
  "schema_version": 2,
  ...
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, TypeVar

from moe.files import create_file, replace_file
from moe.schema import Model, decode

Value = TypeVar("Value", bound=Model)

_OPEN = "{\n"
_SEAL = re.compile(rb'\{\n  "sha256": "([0-9a-f]{64})",\n')


class ChangedError(ValueError):
    """A file is not as it was written: its checksum is missing, or that of another content."""


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole; a NaN is an error."""
    write_text(path, _json(value))


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears whole and replaces what was there; a link is replaced, not followed."""
    replace_file(path, _encoded(text))


def create_text(path: Path, text: str) -> bool:
    """Write a text file that appears whole, unless something is there already; whether it was written."""
    return create_file(path, _encoded(text))


def _encoded(text: str) -> bytes:
    return text.encode(errors="backslashreplace")  # a path may be no text


def _json(value: Any) -> str:
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    if "\\ud" in text:  # perhaps half a surrogate pair, from the name of a file, which no reader takes
        text = json.dumps(_texts(value), indent=2, allow_nan=False) + "\n"
    return text


def _texts(value: Any) -> Any:
    """The same with each byte of a path that is no text as an escape."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_texts(name): _texts(each) for name, each in value.items()}
    return [_texts(each) for each in value] if isinstance(value, list | tuple) else value


def seal(value: Any) -> str:
    """An object as the text of a JSON file with its checksum; a NaN is an error."""
    rest = _json(value).removeprefix(_OPEN)
    return f'{_OPEN}  "sha256": "{hashlib.sha256(rest.encode()).hexdigest()}",\n{rest}'


def unseal(model: type[Value], content: bytes) -> Value:
    """The value in a file that `seal` wrote.

    Raises:
        ChangedError: it does not match its checksum.
        ValueError: it matches, and does not fit the model.
    """
    found = _SEAL.match(content)
    rest = content[found.end() :] if found else b""
    if not found or hashlib.sha256(rest).hexdigest() != found[1].decode():
        raise ChangedError("it does not match its checksum")
    return decode(model, _OPEN.encode() + rest)


def decode_edited(model: type[Value], content: bytes) -> Value:
    """The value in a JSON file whatever its checksum is, as after an edit by hand.

    Raises:
        ValueError: it is no JSON, has a key twice, or does not fit the model.
    """
    value = parse_json(content)
    if not isinstance(value, dict):
        return decode(model, content)
    value.pop("sha256", None)
    return decode(model, value)


def parse_json(content: bytes) -> Any:
    """What JSON stands for; raises a ValueError if it is none, is too deep or has a key twice."""
    try:
        return json.loads(content, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is no JSON: it is too deep") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is no JSON: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for place, (name, _) in enumerate(pairs) if name in dict(pairs[:place]))
        raise ValueError(f"it has {twice!r} twice; expected each key once")
    return found
