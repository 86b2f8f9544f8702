"""Every decoder is given every hostile input: a typed value or one sentence, and nothing else."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from moe.schema import decode
from moe.store.manifest import DamagedError, OtherFormatError, unseal
from study.space import read
from study.study import Record
from tests.faults.hostile import INPUTS
from tests.faults.table import Fault


def decodes(decoder: Callable[[bytes, Path], object], errors: tuple[type[Exception], ...], folder: Path) -> None:
    """Check that a decoder gives a value or raises one short sentence, of its own error, for each hostile input."""
    for what, content in INPUTS.items():
        sentence = "a value"
        try:
            decoder(content, folder)
        except errors as error:
            sentence = str(error)
        assert 0 < len(sentence) < 600, f"{what}: {len(sentence)} characters"
        assert "\n" not in sentence, f"{what}: {sentence}"


def in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """A decoder of files as one of bytes."""

    def decoder(content: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(content)
        return read(path)

    return decoder


#: what it decodes, where it is, the decoder, and its own error
DECODERS: tuple[tuple[str, str, Callable[[bytes, Path], object], tuple[type[Exception], ...]], ...] = (
    ("a record", "moe.schema", lambda content, _: decode(Record, content), (ValueError,)),
    ("a manifest", "moe.store", lambda content, _: unseal(content), (DamagedError, OtherFormatError)),
    ("a space", "study.space", in_file("space.yaml", lambda path: read(str(path), "holdout")), (ValueError,)),
)
FAULTS = tuple(
    Fault("C13", f"hostile bytes for {what}", where, "a value or one sentence", partial(decodes, decoder, errors))
    for what, where, decoder, errors in DECODERS
)
