"""Every decoder is given every hostile input: a typed value or one sentence, and nothing else."""

import io
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from moe import export, pictures
from moe.config import Config
from moe.data import DataError, cifar10, official
from moe.data import cache as caches
from moe.schema import decode
from moe.store.listing import use_in
from moe.store.locks import Beat
from moe.store.manifest import DamagedError, OtherFormatError, unseal
from moe.store.tensors import unpack
from study.space import read
from study.study import Record
from tests.faults.hostile import FILES, INPUTS
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
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return read(path)

    return decoder


def binaries(path: Path) -> object:
    """Read a batch of the binary version, six times over."""
    for name in official.BINARIES:
        if not (path.parent / name).exists():
            (path.parent / name).write_bytes(path.read_bytes())
    return cifar10.find(path.parent).read()


def picture(kind: str) -> bytes:
    """A small picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    return buffer.getvalue()


LAUGHS = "a0: &a0 [1, 2]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))

#: what it decodes, where it is, the decoder, and its own error
DECODERS: tuple[tuple[str, str, Callable[[bytes, Path], object], tuple[type[Exception], ...]], ...] = (
    ("a record", "moe.schema", lambda content, _: decode(Record, content), (ValueError,)),
    ("a config", "moe.schema", lambda content, _: decode(Config, content), (ValueError,)),
    ("a manifest", "moe.store", lambda content, _: unseal(content), (DamagedError, OtherFormatError)),
    ("tensors", "moe.store", lambda content, _: unpack(content), (DamagedError,)),
    ("a beat", "moe.store", lambda content, _: decode(Beat, content), (ValueError,)),
    ("a note of use", "moe.store", lambda content, _: use_in(content), ()),
    ("a space", "study.space", in_file("space.yaml", lambda path: read(str(path), "holdout")), (ValueError,)),
    ("a mixture", "moe predict", in_file("m.safetensors", export.load), (export.ExportError,)),
    ("a picture", "moe predict", in_file("p.png", pictures.load), (pictures.PictureError,)),
    ("a Parquet file", "moe.data", in_file("train.parquet", lambda path: cifar10.find(path.parent)), (DataError,)),
    ("an archive", "moe.data", in_file("a/cifar-10-python.tar.gz", cifar10.find), (DataError,)),
    ("a batch", "moe.data", in_file("b/data_batch_1", cifar10.find), (DataError,)),
    ("a binary batch", "moe.data", in_file("c/data_batch_1.bin", binaries), (DataError,)),
    ("a data set in the cache", "moe.data", in_file("x.safetensors", lambda path: caches.load(path.parent, "x")), ()),
)
#: what reads a file, where it is, the reader, and its own error
READERS: tuple[tuple[str, str, Callable[[Path], object], type[Exception]], ...] = (
    ("a mixture", "moe predict", export.load, export.ExportError),
    ("a picture", "moe predict", pictures.load, pictures.PictureError),
    ("a space", "study.space", lambda path: read(str(path), "holdout"), ValueError),
)
#: pictures that are not read, by what they are
PICTURES: dict[str, Callable[[], bytes]] = {
    "BMP": partial(picture, "BMP"),
    "GIF": partial(picture, "GIF"),
    "TIFF": partial(picture, "TIFF"),
    "AVIF": lambda: b"\0\0\0\x20ftypavif\0\0\0\0avifmif1",
    "AVIF ": lambda: b"\0\0\0\x1cftypmif1\0\0\0\0avif",
    "HEIC": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "HEIC ": lambda: b"\0\0\0\x18ftypmif1\0\0\0\0heic",
    "JPEG 2000": lambda: b"\0\0\0\x0cjP  \r\n\x87\n",
    "SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "PDF": lambda: b"%PDF-1.7\n",
}


def not_read(
    read: Callable[[Path], object], error: type[Exception], make: Callable[[Path], object], folder: Path
) -> None:
    """Check that what is no file is refused at once, in one sentence that names it."""
    path, began, sentence = folder / "file.png", time.monotonic(), ""
    make(path)
    try:
        read(path)
    except error as refused:
        sentence = str(refused)
    assert str(path) in sentence
    assert "\n" not in sentence
    assert time.monotonic() - began < 5


def named(kind: str, content: Callable[[], bytes], folder: Path) -> None:
    """Check that a picture of another kind is refused by its kind."""
    path, sentence = folder / "x.png", ""
    path.write_bytes(content())
    try:
        pictures.load(path)
    except pictures.PictureError as error:
        sentence = str(error)
    assert f"a picture in {kind.strip()};" in sentence, sentence


def numpy_scalars(folder: Path) -> None:
    """Check that a config takes numpy's numbers and flags for what they are."""
    given = {"epochs": np.int64(3), "learning_rate": np.float32(0.5), "use_large_experts": np.bool_(True)}
    assert Config(**given) == Config(epochs=3, learning_rate=0.5, use_large_experts=True)


def deep_object(folder: Path) -> None:
    """Check that an object that is too deep, or none of JSON's, is a ValueError."""
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"config": deep}
    for content in (deep, {"epochs": {1, 2}}, {"epochs": float("nan")}, {"epochs": 10**5000}):
        sentence = ""
        try:
            decode(Config, content)
        except ValueError as error:
            sentence = str(error)
        assert 0 < len(sentence) < 600


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
    *(
        Fault(
            "B9", f"{kind} in place of {what}", where, "one sentence, at once", partial(not_read, reader, error, make)
        )
        for kind, make in FILES.items()
        for what, where, reader, error in READERS
    ),
    *(
        Fault("F27", f"a picture in {kind}", "moe predict", "it is named", partial(named, kind, content))
        for kind, content in PICTURES.items()
    ),
    Fault("H38", "numpy's scalars", "moe.config", "taken for what they are", numpy_scalars),
    Fault("C13", "objects that are no JSON", "moe.schema", "one sentence", deep_object),
)
