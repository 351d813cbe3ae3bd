"""Folders that TensorFlow Datasets prepares from small arrays, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PREPARE = """
import sys
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

class {name}(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("{version}")

    def _info(self):
        features = {{
            "image": tfds.features.Image(shape={shape}),
            "label": tfds.features.ClassLabel(num_classes=256),
        }}
        if {named}:
            features["id"] = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, manager):
        return {{split: self._generate_examples(split) for split in ("train", "test")}}

    def _generate_examples(self, split):
        # PIL images: arrays would be encoded by TensorFlow.
        content = np.load(sys.argv[1])
        for i, (x, y) in enumerate(zip(content[f"{{split}}_images"], content[f"{{split}}_labels"])):
            example = {{"image": Image.fromarray(x), "label": int(y)}}
            if {named}:
                example["id"] = f"{{split}}_{{i:05}}"
            yield i, example

{name}(data_dir=sys.argv[2]).download_and_prepare(file_format="array_record")
assert "tensorflow" not in sys.modules
"""


def prepare(
    folder: Path, name: str, version: str, arrays: dict[str, np.ndarray], *, named: bool = False
) -> Path:
    """Prepares a data set, and returns the folder that holds it.

    Args:
        folder: for what is made.
        name: of the builder's class; the data set's name is this in small letters.
        version: of the data set.
        arrays: `train_images`, `train_labels`, `test_images` and `test_labels`.
        named: whether each example has an "id" with its place in the published order.
    """
    pytest.importorskip("array_record")
    np.savez(folder / "arrays.npz", allow_pickle=False, **arrays)
    shape = arrays["train_images"].shape[1:]
    shape = shape if len(shape) == 3 else (*shape, 1)
    script = folder / "prepare.py"
    script.write_text(PREPARE.format(name=name, version=version, shape=shape, named=named))
    command = [sys.executable, script, folder / "arrays.npz", folder / "data"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "data"
