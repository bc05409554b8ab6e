"""Sizes that files claim: what is more than the machine has is refused, what is taken stays within bounds."""

import gzip
import io
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import zipfile
from unittest import mock

import numpy as np
import pytest
from absl.testing import parameterized
from PIL import Image

from tests import made
from tfpipe import load, memory
from tfpipe.exceptions import DataError

MIB = 1 << 20


def peak(call):
    """What a process says of a call that loads data, and how many bytes of memory that took it at most."""
    program = f"""
import pathlib, resource
import tfpipe
from tfpipe.data.readers import theano_pickle
load = tfpipe.load  # Which imports what that takes.
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    {call}
    print("loaded")
except tfpipe.exceptions.DataError as error:
    print(error)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    message, size = process.stdout.splitlines()
    return message, int(size)


class SizesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def peak_of_load(self, name):
        return peak(f"load({str(self.folder / name)!r})")

    def peak_of_pickle(self, name):
        """Where at most 64 MiB may come of a pickle: the gigabyte that is its limit would take long."""
        return peak(f"theano_pickle.read(pathlib.Path({str(self.folder / name)!r}), most_bytes={64 * MIB})")

    def test_more_than_the_machine_has_is_refused_before_it_is_taken(self):
        made.write_idx_folder(self.folder / "idx")
        images, labels = made.images(30)
        np.savez(self.folder / "some.npz", images=images, labels=labels)
        np.save(self.folder / "fortran.npy", np.asfortranarray(images))
        np.save(self.folder / "labels.npy", labels)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = self.folder / "pictures" / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        datasets = ({"dataset": self.folder / name} for name in ("idx", "some.npz", "pictures"))
        for options in (*datasets, {"dataset": self.folder / "fortran.npy", "labels": self.folder / "labels.npy"}):
            load(**options)
            with (
                mock.patch.object(os, "sysconf", return_value=10),
                self.assertRaisesRegex(DataError, r"would take 0.0 GiB of memory, and there are 0.0; an .npy"),
            ):
                load(**options)

    def test_the_limit_of_a_container_counts(self):
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        for groups, files, expected, available in (
            ("0::/\n", {"memory.max": "1000\n", "memory.stat": "anon 300\nfile 600\n"}, 1000, 700),
            ("0::/a/b\n", {"memory.max": "max\n", "a/memory.max": "2000\n", "a/b/memory.max": "3000\n",
                           "a/b/memory.stat": "anon 2500\n", "a/memory.stat": "anon 100\n"}, 2000, 500),
            ("0::/a\n", {"a/memory.max": "max\n"}, machine, None),
            ("4:cpu,memory:/a/b\n1:cpu:/\n0::/\n", {"memory/a/memory.limit_in_bytes": "4000\n",
                           "memory/a/memory.stat": "rss 1\ntotal_rss 1000\n"}, 4000, 3000),
            ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": f"{2**63 - 4096}\n"}, machine, None),
            ("", {}, machine, None),
            ("0::/\n", {"memory.max/not-a-file": ""}, machine, None),
        ):  # fmt: skip
            root = pathlib.Path(self.create_tempdir().full_path)
            here = {f"sys/fs/cgroup/{name}": content for name, content in files.items()}
            for name, content in (here | {"proc/self/cgroup": groups}).items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(content)
            self.assertEqual(memory.total_memory(root), expected)
            self.assertEqual(memory.available_memory(root), expected if available is None else available)
            (root / "proc/meminfo").write_text("MemTotal: 1 kB\nMemAvailable:  600 kB\n")
            free = 600 * 1024
            self.assertEqual(memory.available_memory(root), free if available is None else min(free, available))
        self.assertEqual(memory.total_memory(root / "not-linux"), machine)
        self.assertLess(memory.available_memory(), machine)

    def test_too_little_memory_is_not_called_damage_and_skips_nothing(self):
        images, labels = made.images(30)
        np.savez(self.folder / "some.npz", images=images, labels=labels)
        (self.folder / "some.pkl").write_bytes(pickle.dumps([(images.reshape(30, -1), labels)] * 3))
        for number, image in enumerate(images):
            path = self.folder / "pictures" / str(number % 2) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        for name, place, options in (
            ("some.npz", (memory, "read"), {}),
            ("some.npz", (np.lib.format, "read_magic"), {}),
            ("some.pkl", (io, "BytesIO"), {}),
            ("some.pkl", (np, "frombuffer"), {}),
            ("pictures", (Image, "open"), {"skip_bad_images": True}),
            ("pictures", (pathlib.Path, "read_bytes"), {"skip_bad_images": True}),
        ):
            with self.subTest(name, place=place[1]):
                patch = mock.patch.object(*place, side_effect=MemoryError)
                with patch, self.assertRaisesRegex(DataError, f"{name}.*: asks for more memory than is free"):
                    load(self.folder / name, **options)

    @pytest.mark.exhaustive
    def test_a_gzip_file_that_holds_more_than_it_says(self):
        # It promises 64 MiB, and expands to 1 GiB.
        made.write_idx_folder(self.folder)
        (self.folder / "train-images-idx3-ubyte").unlink()
        with gzip.open(self.folder / "train-images-idx3-ubyte.gz", "wb", compresslevel=1) as file:
            file.write(struct.pack(">HBBIII", 0, 8, 3, 64, 1024, 1024))
            for _ in range(1024):
                file.write(bytes(MIB))
        message, size = self.peak_of_load("")
        self.assertRegex(message, "its header promises 64 x 1024 x 1024 = 67108864 bytes, but more follow")
        self.assertLess(size, 4 * 64 * MIB)

    @pytest.mark.exhaustive
    def test_a_zip_file_that_holds_what_it_says(self):
        images, labels = np.zeros((64, 1024, 1024), np.uint8), np.arange(64)
        np.savez_compressed(self.folder / "zeros.npz", images=images, labels=labels)
        message, size = self.peak_of_load("zeros.npz")
        self.assertEqual(message, "loaded")
        self.assertLess(size, 4 * images.nbytes)

    @pytest.mark.exhaustive
    def test_a_zip_file_that_holds_more_than_it_says(self):
        # Its array says 64 MiB and its directory 1 GiB, which is there.
        header = io.BytesIO()
        description = {"descr": "|u1", "fortran_order": False, "shape": (64, 1024, 1024)}
        np.lib.format.write_array_header_1_0(header, description)
        with zipfile.ZipFile(self.folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("images.npy", "w", force_zip64=True) as file:
                file.write(header.getvalue())
                for _ in range(1024):
                    file.write(bytes(MIB))
            archive.writestr("labels.npy", b"")
        message, size = self.peak_of_load("bomb.npz")
        self.assertRegex(
            message, "its header promises 64 x 1024 x 1024 of uint8 = 67108864 bytes, and 1073741824 follow"
        )
        self.assertLess(size, 16 * MIB)

    @pytest.mark.exhaustive
    def test_a_pickle_that_expands_without_end(self):
        with gzip.open(self.folder / "bomb.pkl.gz", "wb", compresslevel=1) as file:
            file.write(pickle.PROTO + b"\x04" + pickle.BINBYTES8 + struct.pack("<Q", 1024 * MIB))
            for _ in range(1024):
                file.write(bytes(MIB))
        message, size = self.peak_of_pickle("bomb.pkl.gz")
        self.assertRegex(message, "holds more than 67108864 bytes, the most that is read of such a file")
        self.assertLess(size, 4 * 64 * MIB)

    @parameterized.parameters(0, 2, 5)
    @pytest.mark.exhaustive
    def test_a_pickle_of_the_largest_size(self, protocol):
        pairs = [(np.zeros((n, 1 << 10), np.float32), np.arange(n) % 2) for n in (12000, 2000, 2000)]
        if protocol == 0:  # As text, a pickle of bytes takes several times their size.
            pairs = [(x[:, :128], y) for x, y in pairs]
        path = self.folder / "large.pkl.gz"
        data = pickle.dumps(pairs, protocol)
        path.write_bytes(gzip.compress(data, 1))
        message, size = self.peak_of_pickle("large.pkl.gz")
        self.assertEqual(message, "loaded")
        self.assertLess(size, 4 * 64 * MIB)


if __name__ == "__main__":
    parameterized.absltest.main()
