"""Damaged files of every format: each ends in a clean error, or in a sound load where the damage cannot be told.

    python experiments/fuzz_readers.py [EXAMPLES [NAME...]]

For each format a small sound file is written, and then read again as damaged: cut off at every length; with every byte
changed in three ways; and with EXAMPLES (default 1,000) combinations of damage that hypothesis draws: bits flipped,
bytes inserted, removed, repeated, numbers put in place of others. A reading fails the test if it raises anything but
the errors that tfpipe raises on purpose, takes more than ten seconds, or more than 2 GiB of memory.

Prints the counts as JSON. With names, of the formats whose names begin so: `hdf5 mat`.
"""

import collections
import gzip
import io
import json
import pathlib
import pickle
import re
import resource
import signal
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import safetensors.numpy
import scipy.io
from absl import logging
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import tfpipe
from tests import torch_save
from tfpipe.data import pictures
from tfpipe.exceptions import TfpipeError

SECONDS = 10
MEMORY = 2 << 30
Save = Callable[[pathlib.Path, bytes], None]

random = np.random.default_rng(0)
IMAGES = random.integers(0, 256, (6, 3, 4)).astype(np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])
TEXT = np.array(list("abcabc"), object)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(save: Callable[..., None], labels: np.ndarray = LABELS) -> bytes:
    file = io.BytesIO()
    save(file, images=IMAGES, labels=labels)
    return file.getvalue()


def parquet() -> bytes:
    file = io.BytesIO()
    columns = {f"c{place}": column for place, column in enumerate(IMAGES.reshape(6, -1).T)}
    pyarrow.parquet.write_table(pyarrow.table(columns | {"label": TEXT.tolist()}), file)
    return file.getvalue()


def table() -> bytes:
    rows = [",".join(map(str, [*image.ravel(), label])) for image, label in zip(IMAGES, TEXT, strict=True)]
    return "\n".join([",".join([*(f"c{place}" for place in range(12)), "label"]), *rows, ""]).encode()


def categories() -> bytes:
    rows = ["red,1,train,a,0", "blue,2,train,b,1", ",3,test,a,2", "red,,val,b,3", "red,1,train,a,4"]
    return "\n".join(["colour,size,split,label,x", *rows, ""]).encode()


def hdf5(labels: np.ndarray, matlab: bool = False, libver: str = "earliest", **options: str) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w", libver=libver) as group:
        for name, values in (("X", IMAGES.T if matlab else IMAGES), ("y", labels)):
            dataset = group.create_dataset(name, data=values, **options)
            if matlab:
                dataset.attrs["MATLAB_class"] = np.bytes_(values.dtype.name)
    return file.getvalue()


def hdf5_text() -> tuple[bytes, Save]:
    """A file but for the room that it keeps for more text, 4 kB of zeros that would take most of the time."""
    data = hdf5(TEXT)
    room = max(re.findall(b"\\0+", data), key=len)
    start = data.index(room)

    def save(path: pathlib.Path, data: bytes) -> None:
        path.write_bytes(data[:start] + room + data[start:])

    return data[:start] + data[start + len(room) :], save


def matlab(compressed: bool) -> bytes:
    file = io.BytesIO()
    content = {"X": np.moveaxis(IMAGES, 0, -1), "labels": TEXT.astype(str), "more": {"a": 1}, "class_names": ["a", "b"]}
    scipy.io.savemat(file, content, do_compression=compressed)
    return file.getvalue()


def torch_pickle() -> bytes:
    with zipfile.ZipFile(io.BytesIO(torch_save.save({"X": IMAGES, "y": TEXT.tolist()}))) as archive:
        return archive.read("archive/data.pkl")


def tutorial(protocol: int) -> bytes:
    pair = (IMAGES.reshape(6, -1).astype(np.float32) / 256, LABELS)
    return pickle.dumps((pair, pair, pair), protocol)


def picture(kind: str) -> bytes:
    assert kind != "heif" or pictures.knows_heif()
    file = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(file, kind)
    return file.getvalue()


def zipped(path: pathlib.Path, data: bytes) -> None:
    """An archive with sound checksums around a member that may be damaged."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", data)
        archive.writestr("labels.npy", npy(LABELS))


def around_pickle(path: pathlib.Path, data: bytes) -> None:
    """What `torch.save` writes, with sound checksums around a pickle that may be damaged."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", IMAGES.tobytes())


def whole(path: pathlib.Path, data: bytes) -> None:
    path.write_bytes(data)


def compressed(path: pathlib.Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data, mtime=0))


class Format(NamedTuple):
    """A format: sound bytes, the file for them, how damaged ones get there, and how they are read."""

    name: str
    data: bytes
    path: pathlib.Path
    save: Save
    read: Callable[[], tfpipe.Splits]


def formats(folder: pathlib.Path) -> Iterator[Format]:
    def load(
        dataset: pathlib.Path, labels: pathlib.Path | None = None, categorical: tuple[str, ...] = ()
    ) -> Callable[[], tfpipe.Splits]:
        return lambda: tfpipe.load(dataset, labels=labels, categorical=categorical, validation_split=1, test_split=1)

    parts = {"images": (idx(IMAGES), "train-images-idx3-ubyte"), "labels": (idx(LABELS), "train-labels-idx1-ubyte")}
    for part, (data, file) in parts.items():
        for suffix in ("", ".gz"):
            here = folder / f"idx-{part}{suffix}"
            here.mkdir()
            for other, other_file in parts.values():
                if other_file != file:
                    (here / other_file).write_bytes(other)
            data = gzip.compress(data, mtime=0) if suffix else data
            yield Format(f"idx{suffix} {part}", data, here / (file + suffix), whole, load(here))

    text, save_text = hdf5_text()
    for name, data, file, save in (
        ("npz", npz(np.savez), "stored.npz", whole),
        ("npz, compressed", npz(np.savez_compressed), "compressed.npz", whole),
        ("npz, a member", npy(IMAGES), "member.npz", zipped),
        ("npz, text in objects", npz(np.savez, TEXT), "objects.npz", whole),
        ("hdf5", hdf5(TEXT.astype("S1"), libver="latest", compression="gzip"), "data.h5", whole),
        ("hdf5, text", text, "text.h5", save_text),
        ("hdf5, of matlab", hdf5(LABELS[np.newaxis], matlab=True), "matlab.mat", whole),
        ("mat", matlab(compressed=False), "plain.mat", whole),
        ("mat, compressed", matlab(compressed=True), "compressed.mat", whole),
        ("safetensors", safetensors.numpy.save({"X": IMAGES, "y": LABELS}), "data.safetensors", whole),
        ("pt", torch_save.save({"X": IMAGES, "y": LABELS}), "data.pt", whole),
        ("pt, the pickle", torch_pickle(), "pickle.pt", around_pickle),
        ("csv", table(), "table.csv", whole),
        ("parquet", parquet(), "table.parquet", whole),
        ("pickle, protocol 0", tutorial(0), "0.pkl", whole),
        ("pickle, protocol 2", tutorial(2), "2.pkl", whole),
        ("pickle, protocol 5", tutorial(5), "5.pkl", whole),
        ("pickle in sound gzip", tutorial(2), "2.pkl.gz", compressed),
        ("pickle.gz", gzip.compress(tutorial(2), mtime=0), "gzip.pkl.gz", whole),
    ):
        yield Format(name, data, folder / file, save, load(folder / file))

    path = folder / "categories.csv"
    yield Format("csv, categories and splits", categories(), path, whole, load(path, categorical=("colour", "size")))
    path = folder / "list" / "list.csv"
    path.parent.mkdir()
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(path.parent / f"{number}.png")
    listed = "".join(f"{number}.png,{label}\n" for number, label in enumerate(TEXT))
    yield Format("csv, a list of pictures", f"file,label\n{listed}".encode(), path, whole, load(path))

    images, labels, damaged = (folder / f"{name}.npy" for name in ("images", "labels", "damaged"))
    images.write_bytes(npy(IMAGES))
    labels.write_bytes(npy(LABELS))
    yield Format("npy images", npy(IMAGES.astype(np.float32)), damaged, whole, load(damaged, labels))
    yield Format("npy labels", npy(LABELS), damaged, whole, load(images, damaged))
    yield Format("npy labels, text", npy(np.array(list("abcabc"))), damaged, whole, load(images, damaged))
    yield Format("npy labels, text in objects", npy(TEXT), damaged, whole, load(images, damaged))

    shards = folder / "shards"
    shards.mkdir()
    for number in range(2):
        (shards / f"images_{number}.npy").write_bytes(npy(IMAGES))
        (shards / f"labels_{number}.npy").write_bytes(npy(LABELS))
    yield Format("npy, one of a folder", npy(IMAGES), shards / "images_1.npy", whole, load(shards))

    for kind in ("png", "jpeg", "gif", "bmp", "webp", "tiff", "heif"):
        root = folder / kind
        for name in ("class", "other"):
            (root / name).mkdir(parents=True)
            for number, image in enumerate(IMAGES):
                Image.fromarray(image).save(root / name / f"{number}.png")
        yield Format(kind, picture(kind), root / "class" / f"damaged.{kind}", whole, load(root))


place = st.integers(0, 1 << 16)
some_bytes = st.binary(min_size=1, max_size=8)
numbers = st.sampled_from([0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1])
damages = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), place, st.integers(0, 7)),
        st.tuples(st.just("put"), place, some_bytes),
        st.tuples(st.just("insert"), place, some_bytes),
        st.tuples(st.just("remove"), place, st.integers(1, 64)),
        st.tuples(st.just("repeat"), place, st.integers(1, 64)),
        st.tuples(st.just("number"), place, st.tuples(numbers, st.sampled_from(["<H", ">H", "<I", ">I", "<Q", ">Q"]))),
    ),
    min_size=1,
    max_size=6,
)


def harmed(data: bytes, damage: list) -> bytes:
    result = bytearray(data)
    for kind, where, what in damage:
        at = where % max(1, len(result))
        if kind == "flip" and result:
            result[at] ^= 1 << what
        elif kind == "put":
            result[at : at + len(what)] = what
        elif kind == "insert":
            result[at:at] = what
        elif kind == "remove":
            del result[at : at + what]
        elif kind == "repeat":
            result[at:at] = result[at : at + what]
        elif kind == "number":
            number, form = what
            packed = struct.pack(form, number % 2 ** (8 * struct.calcsize(form)))
            result[at : at + len(packed)] = packed
    return bytes(result)


def every_cut_and_flip(data: bytes) -> Iterator[bytes]:
    for size in range(len(data)):
        yield data[:size]
    for at in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            yield data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def outcome(read: Callable[[], tfpipe.Splits]) -> str:
    """`sound` or `error`; whatever else happens is raised."""
    signal.alarm(SECONDS)
    try:
        splits = read()
    except TfpipeError as error:
        message = str(error)
    else:
        assert all(np.isfinite(part.images).all() for part in (splits.train, splits.validation, splits.test))
        return "sound"
    finally:
        signal.alarm(0)
    # A damaged file must not get as far as to ask for more memory than there is.
    for words in ("asks for more memory", "MemoryError", "Unable to allocate"):
        assert words not in message, message
    assert len(message) < 1000, message
    return "error"


def fuzz(format: Format, examples: int) -> dict[str, int]:
    count: collections.Counter[str] = collections.Counter()

    def attempt(data: bytes) -> None:
        format.save(format.path, data)
        count[outcome(format.read)] += 1

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(damages)
    def drawn(damage: list) -> None:
        attempt(harmed(format.data, damage))

    attempt(format.data)
    assert count == {"sound": 1}, f"{format.name}: the file was not sound to begin with"
    for data in every_cut_and_flip(format.data):
        attempt(data)
    drawn()
    return {"files": count.total(), "errors": count["error"], "sound": count["sound"]}


def main(examples: int, names: tuple[str, ...]) -> None:
    logging.set_verbosity(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        counts = {}
        for format in formats(pathlib.Path(folder)):
            if not format.name.startswith(names or ""):
                continue
            # Anew for each: libraries that others have imported keep what they took.
            in_use = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, resource.RLIM_INFINITY))
            counts[format.name] = fuzz(format, examples)
            print(f"{format.name}: {counts[format.name]}", file=sys.stderr, flush=True)
    print(json.dumps({"files": sum(count["files"] for count in counts.values()), "formats": counts}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, tuple(sys.argv[2:]))
