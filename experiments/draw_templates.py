"""Draws what a model has learned: the weights of each class as an image, blue where ink speaks against the class.

pip install matplotlib
python experiments/draw_templates.py runs/mine/model.npz templates.png
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

from tfpipe import artifact


def main(source: str, target: str) -> None:
    model = artifact.load(source)
    n_classes = len(model.class_names)
    columns = min(n_classes, 5)
    rows = -(-n_classes // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.6 * columns, 1.9 * rows), squeeze=False, layout="constrained")
    limit = np.abs(model.W).max()
    for axis in axes.flat:
        axis.axis("off")
    for k, name in enumerate(model.class_names):
        axis = axes.flat[k]
        axis.imshow(model.W[:, k].reshape(model.image_shape), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(name)
    figure.savefig(target, dpi=120)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
