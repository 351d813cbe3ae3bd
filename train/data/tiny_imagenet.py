"""Tiny ImageNet from `tiny-imagenet-200.zip`, the original archive, or the folder that it unpacks
to.

Its pictures are JPEG, 64 x 64, some of them grey:

- `train/CLASS/images/CLASS_NUMBER.JPEG`: 500 of each of 200 classes;
- `val/images/val_NUMBER.JPEG`, and `val/val_annotations.txt`: lines of a picture's name, its class
  and a box, with tabs between them. Here they are the test images, since the labels of those in
  `test/` were never published.

Classes are numbered in the order of their names. Training images come in the order of their
numbers, all classes in turn: the last ones, which are for validation, are of all classes. Decoders
of JPEG may differ by a level, so that checksums hold for the archive, not for arrays.
"""

import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from train.data import archives
from train.data.dataset import Part, Parts
from train.report.files import DataFileError, open_regular

SIDE = 64
ARCHIVE, FOLDER = "tiny-imagenet-200.zip", "tiny-imagenet-200"
ANNOTATIONS = "val/val_annotations.txt"
_PICTURE = re.compile(r"train/(?P<class>n\d+)/images/\1_(?P<number>\d+)\.JPEG")
_TEST = re.compile(r"val/images/val_(?P<number>\d+)\.JPEG")


def read(folder: Path) -> tuple[Parts, str]:
    """The four arrays, by the first form of which something is there."""
    path = folder / ARCHIVE
    if path.exists():
        found = archives.members(path, wanted, lambda name, stream: _content(name, stream, path))
        return parts(found, path), "the original archive"
    for inner in (folder / FOLDER, folder):
        if (inner / ANNOTATIONS).exists():
            return parts(dict(_files(inner)), inner), "local pictures"
    raise DataFileError(f"{folder}: no file of Tiny ImageNet in it.")


def wanted(member: str) -> str | None:
    """The name of a member of the archive inside its folder, if it is read."""
    name = member.removeprefix(f"{FOLDER}/")
    known = name == ANNOTATIONS or _PICTURE.fullmatch(name) or _TEST.fullmatch(name)
    return name if known else None


def _files(folder: Path) -> Iterable[tuple[str, np.ndarray | str]]:
    for path in sorted(folder.rglob("*")):
        if name := wanted(path.relative_to(folder).as_posix()):
            with open_regular(path) as file, archives.naming(path):
                yield name, _content(name, file, path)


def _content(name: str, stream: archives.Stream, path: Path) -> np.ndarray | str:
    """A picture as uint8[64, 64, 3], or the text of the annotations."""
    content = archives.whole(stream)
    return content.decode() if name == ANNOTATIONS else decoded(content, f"{path}: {name}")


def decoded(content: bytes, path: Path | str) -> np.ndarray:
    """A picture, uint8[64, 64, 3]; `path` is for error messages. DataFileError if it is no JPEG of
    that size, or Pillow is not there."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataFileError(
            f"{path}: reading it needs Pillow: `pip install cgjax[train]`."
        ) from error
    with archives.naming(path), Image.open(io.BytesIO(content), formats=["JPEG"]) as picture:
        if picture.size != (SIDE, SIDE):
            raise ValueError(f"it has {picture.size} pixels, expected {(SIDE, SIDE)}")
        return np.asarray(picture.convert("RGB"))


def parts(found: Mapping[str, np.ndarray | str], path: Path) -> Parts:
    """The four arrays of pictures and annotations by their names."""
    annotations = found.get(ANNOTATIONS)
    if not isinstance(annotations, str):
        raise DataFileError(f"{path}: holds no {ANNOTATIONS}.")
    training, testing = (
        [(match, found[match[0]]) for match in map(pattern.fullmatch, found) if match]
        for pattern in (_PICTURE, _TEST)
    )
    if not training or not testing:
        raise DataFileError(
            f"{path}: holds no pictures for {'testing' if training else 'training'}."
        )
    training.sort(key=lambda pair: (int(pair[0]["number"]), pair[0]["class"]))
    testing.sort(key=lambda pair: int(pair[0]["number"]))
    numbers = {name: k for k, name in enumerate(sorted({m["class"] for m, _ in training}))}
    of_test = _annotated(annotations, f"{path}: {ANNOTATIONS}")
    classes = []
    for match, _ in testing:
        name = of_test.get(match[0].rpartition("/")[2])
        if name not in numbers:
            what = (
                "no class"
                if name is None
                else f"the class {name}, of which no picture is for training"
            )
            raise DataFileError(f"{path}: {match[0]} has {what}.")
        classes.append(numbers[name])

    def both(
        pairs: list[tuple[re.Match[str], np.ndarray | str]], labels: list[int]
    ) -> tuple[Part, Part]:
        images = np.stack([np.asarray(image) for _, image in pairs])
        return Part(images, path), Part(np.array(labels, np.uint8), path)

    return {
        "train": both(training, [numbers[match["class"]] for match, _ in training]),
        "test": both(testing, classes),
    }


def _annotated(text: str, path: str) -> dict[str, str]:
    """The class of each picture for testing; DataFileError names a line that is none."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        columns = line.split("\t")
        if len(columns) < 2:
            told = (
                f"{line!r}, expected a picture's name, its class and a box, with tabs between them"
            )
            raise DataFileError(f"{path}, line {number}: {told}.")
        found[columns[0]] = columns[1]
    return found
