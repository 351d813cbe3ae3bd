"""Reads a set that TensorFlow Datasets has prepared, without TensorFlow.

What `tfds.data_source` needs, and what not (TFDS 4.9.10):

- A folder `ROOT/NAME/VERSION` with `dataset_info.json`, `features.json` and the record files, in a
  random-access format: `array_record`. The default format, `tfrecord`, can only be read with
  TensorFlow; TFDS then raises `NotImplementedError`.
- The packages `array_record` and Pillow (images are stored as PNG). TensorFlow is imported neither
  for reading nor for writing records.
- *Preparing* a set without TensorFlow works if its builder gives images as PIL images or encoded
  bytes. TFDS's own MNIST builders give arrays, which they encode through TensorFlow, and open
  their downloads through it, so `download_and_prepare` ends in `No module named 'tensorflow'`.

TFDS orders records by a hash of the split's name and the record's key. The keys of the MNIST
and CIFAR builders are the positions in the original files, so that order can be undone.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from train.data import archives
from train.report.files import DataFileError, open_regular

FORMAT = "array_record"
_REMEDY = "Prepare the data set again."
_BATCH = 1000  # records decoded between two look-ups


def find(root: Path, name: str) -> Path | None:
    """The folder of the newest prepared version of a set, if there is one, under `root`: a TFDS
    data folder, or the folder of the set or of one of its versions."""
    paths = (f"{folder}dataset_info.json" for folder in (f"{name}/*/", "*/", ""))
    infos = (info for path in paths for info in root.glob(path))
    folders = (info.parent for info in infos if info.parent.parent.name == name)

    def version(folder: Path) -> list[int]:
        return [int(part) for part in folder.name.split(".") if part.isdecimal()]

    return max(folders, key=version, default=None)


def file_format(folder: Path) -> str:
    """The format of the records, from the folder's `dataset_info.json`."""
    path = folder / "dataset_info.json"
    with archives.advised(_REMEDY), open_regular(path) as file, archives.naming(path):
        return str(json.loads(archives.whole(file)).get("fileFormat", "tfrecord"))


def read(folder: Path, name: str, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images, `uint8[n, rows, columns]` with a last axis of channels if there are several, and
    labels, `uint8[n]`, of the split `"train"` or `"test"`, in the order of the original files.

    The published set has `count` records; a folder, as of `find`, with another number is read in
    its own order, since its keys are unknown. DataFileError if it is not array_record or cannot be
    read.
    """
    if file_format(folder) != FORMAT:
        raise DataFileError(
            f"{folder}: prepared as {file_format(folder)}, which needs TensorFlow to read. Prepare "
            f'it with file_format="{FORMAT}".'
        )
    try:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import hashing
    except ImportError as error:
        raise DataFileError(
            f"{folder}: reading it needs the package {error.name}: `pip install cgjax[train]`."
        ) from error
    # The errors of TFDS, array_record and Pillow share no base class.
    with archives.advised(_REMEDY), archives.naming(f"{folder}, {split} split"):
        for path in folder.iterdir():  # TFDS would wait for ever at a pipe
            if not path.is_dir():
                open_regular(path).close()
        source: Any = tfds.data_source(
            f"{name}:{folder.name}", split=split, data_dir=folder.parent.parent, download=False
        )
        records = []
        for start in range(0, len(source), _BATCH):
            batch = range(start, min(start + _BATCH, len(source)))
            records += [(r["image"], r["label"]) for r in source.__getitems__(list(batch))]
        images = np.stack([np.asarray(image, np.uint8) for image, _ in records])
        images = images[..., 0] if images.shape[-1] == 1 else images
        labels = np.asarray([label for _, label in records], np.uint8)
    if len(images) != count:
        return images, labels
    original = np.argsort(sorted(range(count), key=hashing.Hasher(split).hash_key))
    return images[original], labels[original]
