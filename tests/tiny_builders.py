"""Builders of TensorFlow Datasets, tiny, that need no network. Importing them makes their names known."""

import numpy as np
import tensorflow_datasets as tfds

from tests import made


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    """Gray pictures of one size; the test split of the configuration `unlabelled` has no labels."""

    VERSION = tfds.core.Version("1.2.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name="labelled", version="1.2.0"),
        tfds.core.BuilderConfig(name="unlabelled", version="1.2.0"),
    ]

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(4, 6, 1)),
            "label": tfds.features.ClassLabel(names=["cat", "dog", "eel"]),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(name) for name in ("train", "validation", "test")}

    def _generate_examples(self, split):
        for number, (image, label) in enumerate(zip(*pictures(split), strict=True)):
            hidden = split == "test" and self.builder_config.name == "unlabelled"
            yield number, {"image": image[..., np.newaxis], "label": -1 if hidden else label}


def pictures(split):
    """What a split of `tiny_pictures` holds, in the order in which it was generated: `[N, 4, 6]` uint8, `[N]`."""
    return made.images({"train": 2000, "validation": 20, "test": 30}[split], seed=len(split))


class TinySizes(tfds.core.GeneratorBasedBuilder):
    """Coloured pictures of several sizes, in a training split alone."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=2)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(20):
            yield number, {"image": np.full((5 + number % 2, 7, 3), 10 * number, np.uint8), "label": number % 2}


class TinyRows(tfds.core.GeneratorBasedBuilder):
    """Rows of numbers, under a name that features.json gives a meaning too, with an integer for a label."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "type": tfds.features.Tensor(shape=(3,), dtype=np.float64),
            "kind": tfds.features.Scalar(dtype=np.int32),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("type", "kind")
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(), "test": self._generate_examples()}

    def _generate_examples(self):
        for number in range(12):
            yield number, {"type": np.arange(3) + number / 4, "kind": number % 4}


class TinySentences(tfds.core.GeneratorBasedBuilder):
    """Nothing for a linear model of images."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("text", "label")
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(4):
            yield number, {"text": "a", "label": number % 2}


class TinyDownload(TinyRows):
    """Is downloaded, from a port that nobody listens to unless a test sees to it."""

    url_infos = {"http://127.0.0.1:1/rows.txt": None}  # noqa: RUF012

    def _split_generators(self, dl_manager):
        (url,) = self.url_infos
        rows = np.loadtxt(dl_manager.download(url))
        return {"train": [(i, {"type": row[:3], "kind": int(row[3])}) for i, row in enumerate(rows)]}
