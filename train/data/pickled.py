"""Batches of CIFAR-10 and CIFAR-100 in Python's pickle format, read without running what a pickle
asks for.

A pickle is a program, which may call any function there is. Here it finds nothing but stand-ins for
what NumPy's arrays of bytes are made of, and no number in it can ask for much memory.

A batch is a dictionary with `data`, uint8[n, 3072]: the red, green and blue plane of each image,
row by row, and `labels`, a list of n numbers; that of classes is `fine_labels` in CIFAR-100. Python
2 wrote the published ones, in protocol 2.
"""

import io
import pickle
import pickletools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from train.data import archives
from train.report.files import DataFileError

SIDE, PLANES = 32, 3


def parse_pickled_batch(
    content: bytes, path: Path | str, labels: str = "labels"
) -> tuple[np.ndarray, np.ndarray]:
    """Images, `uint8[n, 32, 32, 3]`, and labels, `uint8[n]`, in one of the original pickles; `path`
    is for error messages, `labels` is what these are called. DataFileError if it is truncated,
    holds something else, or asks for a function or class that such a batch does not need, which is
    not called."""
    with archives.naming(path):
        _require_small_numbers(content)
        planes, found = _parts(_Unpickler(content, path).load(), labels)
    return planes.reshape(-1, PLANES, SIDE, SIDE).transpose(0, 2, 3, 1), found


def _require_small_numbers(content: bytes) -> None:
    """Raises ValueError where an instruction is not whole, or needs a table longer than the file:
    a single changed bit may ask for more memory than there is."""
    for instruction, number, position in pickletools.genops(content):
        if instruction.name in ("PUT", "BINPUT", "LONG_BINPUT") and (number or 0) > len(content):
            raise ValueError(f"at byte {position} a table of {number} entries")


class _Element:
    """Stands for the type of an array's elements."""

    def __init__(self, name: str | bytes):
        self.name = name.decode() if isinstance(name, bytes) else name

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like, which bytes do not have."""


class _Array:
    """Stands for an array, whose content may come after it was made."""

    def __init__(self) -> None:
        self.values: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, element, by_columns, content = state
        self.fill(content, element, shape, "F" if by_columns else "C")

    def fill(self, content: bytes, element: _Element, shape: Sequence[int], order: Any) -> "_Array":
        """Itself, with this content."""
        if element.name != "u1":
            raise ValueError(f"an array of {element.name}, expected u1")
        self.values = np.frombuffer(content, np.uint8).reshape(shape, order=order)
        return self


class _Unpickler(pickle.Unpickler):
    """Of arrays of bytes in dictionaries and lists, with strings and numbers, and nothing else."""

    def __init__(self, content: bytes, path: Path | str):
        super().__init__(io.BytesIO(content), encoding="bytes")  # of Python 2's strings
        self._path, self._left = path, len(content)

    def find_class(self, module: str, name: str) -> Any:
        # Functions made anew: a pickle may change the attributes of what it is given.
        match module.replace("numpy._core.", "numpy.core."), name:  # as NumPy 2 and 1 call it
            case "numpy.core.multiarray", "_reconstruct":
                return lambda *_: _Array()
            case "numpy.core.numeric", "_frombuffer":  # in protocol 5
                return lambda *arguments: _Array().fill(*arguments)
            case "numpy", "dtype":
                return lambda name, *_: _Element(name)
            case "numpy", "ndarray":
                return "ndarray"  # an argument of `_reconstruct`
            case "_codecs", "encode":  # how Python 3 writes bytes in protocol 2
                return lambda text, _: self._encoded(text)
        self._refuse(f"{module}.{name}")

    def _encoded(self, text: str) -> bytes:
        self._left -= len(text)  # of a text that is asked for again and again, too
        if self._left < 0:
            raise ValueError("it unpacks to more bytes than it has")
        return text.encode("latin1")

    def persistent_load(self, pid: Any) -> NoReturn:
        self._refuse("an object outside the file")

    def _refuse(self, wish: str) -> NoReturn:
        raise DataFileError(
            f"{self._path}: asks for {wish}, which no batch of CIFAR needs; nothing was run."
        )


def _parts(batch: Any, called: str) -> tuple[np.ndarray, np.ndarray]:
    """`uint8[n, 3072]` planes and `uint8[n]` labels; raises ValueError if that is not in it."""
    if not isinstance(batch, dict):
        raise ValueError(f"it holds no dictionary, but {type(batch).__name__}")
    named = {k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in batch.items()}
    data, labels = named.get("data"), named.get(called)
    planes = data.values if isinstance(data, _Array) else None
    width = PLANES * SIDE * SIDE
    if planes is None or planes.ndim != 2 or planes.shape[1] != width or not len(planes):
        what = "no array" if planes is None else f"of shape {planes.shape}"
        raise ValueError(f"'data' is {what}, expected bytes of shape (n, {width})")
    if not isinstance(labels, list) or not all(type(k) is int and 0 <= k < 256 for k in labels):
        raise ValueError(f"{called!r} is not a list of numbers from 0 to 255")
    if len(labels) != len(planes):
        raise ValueError(f"{len(labels)} labels for {len(planes)} images")
    return planes, np.array(labels, np.uint8)
