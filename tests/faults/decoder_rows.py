"""Every decoder is given every hostile input: a typed value or one sentence, and nothing else."""

import time
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


LAUGHS = "a0: &a0 [1, 2]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))

#: what it decodes, where it is, the decoder, and its own error
DECODERS: tuple[tuple[str, str, Callable[[bytes, Path], object], tuple[type[Exception], ...]], ...] = (
    ("a record", "moe.schema", lambda content, _: decode(Record, content), (ValueError,)),
    ("a manifest", "moe.store", lambda content, _: unseal(content), (DamagedError, OtherFormatError)),
    ("a space", "study.space", in_file("space.yaml", lambda path: read(str(path), "holdout")), (ValueError,)),
)
#: what is wrong in a YAML file, its text, and words of the sentence
YAML: tuple[tuple[str, str, str, str], ...] = (
    ("B11", "nested aliases", LAUGHS, "anchor or alias"),
    ("B11", "an alias to itself", "epochs: &a [1, *a]", "anchor or alias"),
    ("C13", "!!bool maybe", "use_large_experts: !!bool maybe", "'maybe'; expected true or false"),
    ("C13", "!!float of nothing", "learning_rate: !!float ''", "expected a number"),
    ("C13", "!!int of text", "epochs: !!int x", "epochs has x; expected a decimal number"),
    ("C13", "!!timestamp of text", "epochs: !!timestamp abc", "timestamp"),
    ("C13", "a date", "epochs: 2026-01-01", "timestamp"),
    ("C13", "!!binary", "epochs: !!binary '=='", "binary"),
    ("C13", "a Python object", "epochs: !!python/object/apply:os.system ['true']", "epochs is of the type"),
    ("C13", "!!set", "epochs: !!set {1, 2}", "epochs is a mapping"),
    ("C13", "a tag of another's", "epochs: !mine 3", "of the type !mine"),
    ("C13", "a number of 5,000 digits", f"epochs: {'9' * 5000}", "expected a whole number"),
    ("C13", "a mapping as a key", "{a: 1}: 2", "no name"),
    ("C13", "two documents", "epochs: 1\n---\nepochs: 2", "single document"),
    ("C13", "1,000 levels", "epochs: " + "[" * 1000 + "]" * 1000, "levels"),
    ("H38", "octal in a merge", "<<: {epochs: 010}\nbatch_size: 5", "without merges"),
    ("H38", "a doubled key in a merge", "<<: {epochs: 1, epochs: 2}", "without merges"),
    ("H38", "a merge of an alias", "a: &a {epochs: 1}\n<<: *a", "anchor or alias"),
    ("H38", "W&B's min and max", "epochs: {min: 1, max: 5}", "a list of values"),
    ("H38", "W&B's values", "epochs: {values: [1, 2]}", "a list of values"),
)


def yaml_refused(text: str, words: str, folder: Path) -> None:
    """Check that a YAML file is refused at once, in one short sentence with these words."""
    path, began = folder / "space.yaml", time.monotonic()
    path.write_text(text)
    sentence = ""
    try:
        read(str(path), "holdout")
    except ValueError as error:
        sentence = str(error)
    assert words in sentence, sentence
    assert len(sentence) < 500
    assert time.monotonic() - began < 2


FAULTS = (
    *(
        Fault("C13", f"hostile bytes for {what}", where, "a value or one sentence", partial(decodes, decoder, errors))
        for what, where, decoder, errors in DECODERS
    ),
    *(
        Fault(kind, f"YAML with {what}", "study.space", "refused in a sentence", partial(yaml_refused, text, words))
        for kind, what, text, words in YAML
    ),
)
