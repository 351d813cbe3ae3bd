"""Texts as characters: from their files, and one that Python ships.

"python" is what `help()` says of Python's keywords and concepts, `pydoc_data.topics`, under the
licence of Python (PSF-2.0). It is another text in another version of Python, which results name.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.data import archives
from train.report.files import DataFileError, open_regular

# The names that the file of a text may have, in a folder, with or without ".gz".
FILES = {"tinyshakespeare": ("input.txt", "tinyshakespeare.txt"), "kjv": ("kjv.txt",)}
NAMES = ("python", *FILES)
# Of a text, what is for validation and, behind it, for testing.
HELD_OUT = 0.05


class Text(NamedTuple):
    """A text in three parts, as the places of its characters in an alphabet."""

    train: np.ndarray  # uint8[characters]
    validation: np.ndarray
    test: np.ndarray
    alphabet: str  # its characters, in the order of their code points
    source: str  # where it came from, in words

    @property
    def digest(self) -> str:
        """SHA-256 of the characters: the same from other files."""
        found = hashlib.sha256(self.alphabet.encode())
        for part in self[:3]:
            found.update(f"{part.size}:".encode() + part.tobytes())
        return found.hexdigest()


def load(
    name: str, data_dir: str | os.PathLike[str] | None = None, most: int | None = None
) -> Text:
    """A text by name, one of `NAMES`, or its first so many characters: nine tenths for training,
    then a twentieth each for validation and test. ValueError for another name. DataFileError if
    there is no folder, or its file is missing, damaged, or no text in ASCII."""
    if name not in NAMES:
        raise ValueError(f"no text {name!r}; there are {', '.join(NAMES)}")
    if name == "python":
        content, source = _topics()
    elif data_dir is None:
        raise DataFileError(
            f"{name} is not part of any package: give the folder that holds its file with "
            "--data-dir, or take --data python, which needs none. docs/data.md says where they are"
        )
    else:
        content, source = _of_file(Path(data_dir).expanduser(), FILES[name])
    return cut(content[:most], source)


def cut(content: str, source: str) -> Text:
    """A text cut into its three parts. DataFileError if it has fewer than 100 characters, or more
    than 256 different ones."""
    alphabet = "".join(sorted(set(content)))
    if len(content) < 100 or len(alphabet) > 256:
        raise DataFileError(
            f"{source}: {len(content)} characters, {len(alphabet)} different ones; expected at "
            "least 100, and at most 256 different ones."
        )
    places = {character: place for place, character in enumerate(alphabet)}
    codes = np.array([places[character] for character in content], np.uint8)
    held = round(HELD_OUT * len(codes))
    parts = codes[: -2 * held], codes[-2 * held : -held], codes[-held:]
    told = ", ".join(
        f"{part.size} {word}"
        for part, word in zip(parts, ("for training", "validation", "test"), strict=True)
    )
    return Text(*parts, alphabet, f"{source}: {len(alphabet)} symbols; {told} characters")


def _topics() -> tuple[str, str]:
    import platform

    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataFileError(
            "this Python comes without pydoc_data.topics, the text of --data python: install its "
            "standard library whole, or choose another text with --data-dir."
        ) from error
    content = "\n\n\n".join(topics[name].strip() for name in sorted(topics))
    # Quotation marks and the like, a thousandth of the text.
    content = content.encode("ascii", "replace").decode()
    return content, f"what help() of Python {platform.python_version()} says (PSF licence)"


def _of_file(folder: Path, names: tuple[str, ...]) -> tuple[str, str]:
    candidates = [folder / f"{name}{suffix}" for name in names for suffix in ("", ".gz")]
    path = next((path for path in candidates if path.exists()), None)
    if path is None:
        raise DataFileError(
            f"{folder} holds none of {', '.join(names)}, with or without .gz: --data-dir is the "
            "folder with the file; docs/data.md says where it is."
        )
    with open_regular(path) as file, archives.naming(path):
        content = archives.whole(archives.unpacked(file))
        return content.decode("ascii"), path.name
