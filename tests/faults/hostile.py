"""Hostile inputs, the same for every decoder, and hostile files, the same for every reader."""

import os
from collections.abc import Callable
from pathlib import Path

#: bytes that are no value of ours, by what they are
INPUTS: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b" \n\t\n",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "no UTF-8": b'{"a": "\xff\xfe"}',
    "a zero byte": b'{"a"\x00: 1}',
    "half a surrogate": rb'{"a": "\ud800"}',
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "lists that never close": b"[" * 100_000,
    "a whole number of 5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "a number of 400 digits": b'{"a": ' + b"9" * 400 + b".0}",
    "an exponent beyond all": b'{"a": 1e999999}',
    "NaN": b'{"a": NaN}',
    "Infinity": b"Infinity",
    "a number": b"1",
    "text": b'"text"',
    "null": b"null",
    "a list": b"[]",
    "an empty object": b"{}",
    "a key twice": b'{"a": 1, "a": 2}',
    "a list for a key": b"{[1]: 2}",
    "cut short": b'{"a": {"b": [1, 2',
    "two values": b"{} {}",
    "a web page": b"<!DOCTYPE html><html><body>sign in</body></html>",
    "a pickle": b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1000\n",
    "escapes of a terminal": b"\x1b[2J\x1b]0;owned\x07",
    "a megabyte of zeros": bytes(1 << 20),
    "a header of safetensors that is all memory": (2**62).to_bytes(8, "little") + b"{}",
    "a header of safetensors that is deep": (200_000).to_bytes(8, "little") + b"[" * 200_000,
}


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


#: what may stand where a file is read, by what it is
FILES: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a device that never ends": lambda path: path.symlink_to("/dev/zero"),
    "a device that waits": lambda path: path.symlink_to("/dev/tty"),
    "a sparse terabyte": _sparse,
}
