"""Whether a model says the same wherever it is used.

    TFPIPE_MNIST_DIR=FOLDER python experiments/check_exports.py

Trains on MNIST, exports the model in every form, and asks each of them, in a process and by a runtime of its own, for
the probabilities of all 10,000 test images: `tfpipe predict` on an .npy and on pictures, six lines of NumPy, SavedModel
on images and on the bytes of pictures, Keras, ONNX Runtime. Other classes, or probabilities that differ by more than
1e-6, are an error. Prints one JSON object to stdout: the largest difference of each from NumPy in float64.
"""

import argparse
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

import tfpipe

MOST = 1e-6
# What a user of each would write; run in an empty process, with the model's path, the images' and the output's.
PROGRAMS = {
    "numpy": """
model = np.load(model)
z = images.reshape(len(images), -1) @ model["W"].astype("float64") + model["b"]
p = np.exp(z - z.max(axis=1, keepdims=True))
p /= p.sum(axis=1, keepdims=True)
""",
    "saved_model": """
import tensorflow as tf
p = tf.saved_model.load(model).signatures["serving_default"](images=tf.constant(images))["probabilities"].numpy()
""",
    "encoded": """
import tensorflow as tf
pictures = [open(path, "rb").read() for path in sorted(glob.glob(pictures + "/*.png"))]
p = tf.saved_model.load(model).signatures["encoded"](pictures=tf.constant(pictures))["probabilities"].numpy()
""",
    "keras": """
import keras
p = keras.models.load_model(model).predict(images, verbose=0)
""",
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
(p,) = session.run(["probabilities"], {"images": images})
""",
}
_START = "import glob, sys, numpy as np\n_, model, images, pictures, output = sys.argv\nimages = np.load(images)\n"
_END = "np.save(output, p)\n"


def python(program: str, *arguments: str) -> None:
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, env=quiet)


def command(*arguments: str) -> str:
    """What `tfpipe` writes to stdout."""
    command = [sys.executable, "-m", "tfpipe", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def predicted(run: str, source: str, n_out: int) -> np.ndarray:
    """The probabilities of `tfpipe predict`, in the order of the classes."""
    lines = csv.DictReader(command("predict", f"--workdir={run}", f"--top_k={n_out}", source).splitlines())
    found = []
    for line in lines:
        names = ["class", *(f"class_{place}" for place in range(2, n_out + 1))]
        of_class = {int(line[name]): float(line[name.replace("class", "probability")]) for name in names}
        found.append([of_class[k] for k in range(n_out)])
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="how many of the test images")
    count = parser.parse_args().images
    if not os.environ.get("TFPIPE_MNIST_DIR"):
        raise SystemExit("TFPIPE_MNIST_DIR must name a folder with MNIST's IDX files")
    splits = tfpipe.load(os.environ["TFPIPE_MNIST_DIR"])
    images = np.array(splits.test.images[:count])
    with tempfile.TemporaryDirectory() as folder:
        run, pictures = f"{folder}/run", f"{folder}/pictures"
        command(
            "train",
            f"--dataset={os.environ['TFPIPE_MNIST_DIR']}",
            "--learning_rate=0.13",
            "--epochs=40",
            f"--workdir={run}",
            "--verbosity=-1",
        )
        np.save(f"{folder}/images.npy", images)
        pathlib.Path(pictures).mkdir()
        for number, pixels in enumerate(images):
            Image.fromarray(pixels).save(f"{pictures}/{number:05d}.png")
        exports = {"numpy": f"{run}/model.npz"}
        for format in ("saved_model", "keras", "onnx"):
            exports[format] = json.loads(command("export", f"--workdir={run}", f"--format={format}"))["output"]
        exports["encoded"] = exports["saved_model"]
        found = {
            "tfpipe predict, .npy": predicted(run, f"{folder}/images.npy", splits.n_out),
            "tfpipe predict, pictures": predicted(run, pictures, splits.n_out),
        }
        for name, program in PROGRAMS.items():
            output = f"{folder}/{name}.npy"
            python(_START + program + _END, exports[name], f"{folder}/images.npy", pictures, output)
            found[name] = np.load(output)
    expected = found["numpy"]
    differences = {name: float(np.abs(p - expected).max()) for name, p in found.items()}
    others = {name: int((p.argmax(axis=1) != expected.argmax(axis=1)).sum()) for name, p in found.items()}
    error = float(np.mean(expected.argmax(axis=1) != splits.test.labels[:count]))
    print(
        json.dumps(
            {"images": len(expected), "error": error, "largest_difference": differences, "other_classes": others}
        )
    )
    if max(differences.values()) > MOST or any(others.values()):
        raise SystemExit(f"they differ by more than {MOST}")


if __name__ == "__main__":
    main()
