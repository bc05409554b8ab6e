import gzip
import os
import pathlib
import pickle
import struct
import subprocess

import numpy as np
import pytest
from absl.testing import absltest, parameterized

from tests import made
from tfpipe import load
from tfpipe.data.readers import theano_pickle
from tfpipe.exceptions import DataError


def pairs(shape=(28, 28), dtype=np.float32, divisor=256):
    """Three pairs in the tutorial's form, and the bytes they come from."""
    parts = [made.images(n, shape, seed=seed) for seed, n in enumerate((12, 6, 5))]
    return (
        tuple(((p.reshape(len(p), -1) / divisor).astype(dtype), y.astype(np.int64)) for p, y in parts),
        [pixels for pixels, _ in parts],
    )


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class TheanoPickleTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.path = self.folder / "mnist.pkl.gz"

    def write(self, data):
        self.path.write_bytes(gzip.compress(data, mtime=0))
        return self.path

    @parameterized.parameters(0, 1, 2, 3, 4, 5)
    def test_the_tutorials_form_in_every_protocol(self, protocol):
        content, pixels = pairs()
        splits = load(str(self.write(pickle.dumps(content, protocol))))
        for split, expected, (_, labels) in zip(
            (splits.train, splits.validation, splits.test), pixels, content, strict=True
        ):
            np.testing.assert_array_equal(split.images, expected / np.float32(256))
            np.testing.assert_array_equal(split.labels, labels)
        self.assertEqual(splits.train.images.dtype, np.float32)
        self.assertEqual((splits.pixel_max, splits.image_shape), (1.0, (28, 28)))

    def test_a_file_that_python_2_wrote(self):
        # Python 2 wrote bytes as strings and knew NumPy's parts by their older names.
        def array(a):
            raw = a.tobytes()
            shape = b"K" + bytes([len(a)]) + (b"M" + struct.pack("<H", a.shape[1]) + b"\x86" if a.ndim > 1 else b"\x85")
            kind = a.dtype.str[1:].encode()
            return (
                b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n("
                + shape[:0]
                + b"".join(b"I%d\n" % n for n in a.shape)
                + b"tcnumpy\ndtype\n(S'"
                + kind
                + b"'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nT"
                + struct.pack("<i", len(raw))
                + raw
                + b"tb"
            )

        content, pixels = pairs()
        data = b"(" + b"".join(b"(" + array(x) + array(y) + b"t" for x, y in content) + b"t."
        splits = load(str(self.write(data)))
        np.testing.assert_array_equal(splits.train.images * 256, pixels[0])
        np.testing.assert_array_equal(splits.test.labels, content[2][1])

    def test_rows_of_other_sizes_stay_rows(self):
        content, pixels = pairs(shape=(2, 3), dtype=np.float64, divisor=255)
        splits = load(str(self.write(pickle.dumps(content))))
        self.assertEqual((splits.train.images.dtype, splits.pixel_max, splits.image_shape), (np.float32, 1.0, (6,)))
        np.testing.assert_array_equal(splits.test.images, (pixels[2].reshape(5, -1) / 255).astype(np.float32))

    def test_big_endian_and_fortran_order(self):
        content, pixels = pairs(shape=(2, 3))
        content = [(np.asfortranarray(x.astype(">f4")), y.astype(">i8")) for x, y in content]
        splits = load(str(self.write(pickle.dumps(content))))
        np.testing.assert_array_equal(splits.validation.images * 256, pixels[1].reshape(6, -1))
        np.testing.assert_array_equal(splits.validation.labels, content[1][1])

    @parameterized.parameters(*range(6))
    def test_a_pickle_that_would_run_a_command_is_refused_by_name(self, protocol):
        trace = self.folder / "ran"
        for function, name in (
            (os.system, r"(posix|nt)\.system"),
            (subprocess.getoutput, r"(subprocess|commands)\.getoutput"),
        ):
            hostile = Hostile(function, f"touch {trace}")
            for content in (hostile, [hostile, pairs()[0]], ((pairs()[0][0][0], hostile),) * 3):
                self.write(pickle.dumps(content, protocol))
                with self.assertRaisesRegex(DataError, f"mnist.pkl.gz: refused: it names {name}"):
                    theano_pickle.read(self.path)
        self.assertFalse(trace.exists())

    @parameterized.parameters(
        (Hostile(eval, "1"), "builtin.*eval"),
        (Hostile(np.load, "x"), "numpy.load"),
        (Hostile(np.array, [1]), "numpy.array"),
        (Hostile(getattr, 1, "real"), "builtin.*getattr"),
    )
    def test_all_other_names_are_refused_too(self, hostile, name):
        with self.assertRaisesRegex(DataError, f"refused: it names .*{name}"):
            theano_pickle.read(self.write(pickle.dumps(hostile, 2)))

    def test_state_can_be_given_to_arrays_alone(self):
        # BUILD on an admitted function would set its attributes.
        data = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nNb."
        with self.assertRaisesRegex(DataError, "sets the state of something that is no array"):
            theano_pickle.read(self.write(data))

    def test_arrays_of_objects_are_refused(self):
        objects = np.array([[1, "a"]], dtype=object)
        with self.assertRaisesRegex(DataError, "refused: an array of another type than integers and floating-point"):
            theano_pickle.read(self.write(pickle.dumps(((objects, objects),) * 3)))

    def test_lengths_that_the_file_does_not_hold_take_no_memory(self):
        huge = struct.pack("<Q", 1 << 40)
        for opcode in (pickle.BYTEARRAY8, pickle.BINBYTES8, pickle.BINUNICODE8):
            with self.assertRaisesRegex(DataError, "mnist.pkl.gz"):
                theano_pickle.read(self.write(b"\x80\x05" + opcode + huge + b"abc."))
        with self.assertRaisesRegex(
            DataError, "mnist.pkl.gz"
        ):  # A place in the memo that C's unpickler would allocate.
            theano_pickle.read(self.write(b"\x80\x02N" + pickle.LONG_BINPUT + b"\xff\xff\xff\x7f" + b"."))

    def test_a_small_file_takes_neither_for_ever_nor_all_memory(self):
        # A tuple of itself twice, 60 times over: it takes few bytes, but its hash and its text take for ever.
        nested = b"Np0\n" + b"".join(b"g%d\ng%d\n\x86p%d\n" % (n, n, n + 1) for n in range(60))
        array = (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I0\nt"
            b"cnumpy\ndtype\n(g60\nI0\nI1\ntRI00\nS''\ntbp90\n"
        )
        for use, message in (
            (b"}g60\nNs.", "not a readable pickle"),
            (array + b"g90\ng90\n\x86p91\ng91\ng91\ng91\n\x87.", "an array of another type"),
            (b"c_codecs\nencode\n(Va\ng60\ntR.", "another codec"),
        ):
            with self.assertRaisesRegex(DataError, message):
                theano_pickle.read(self.write(nested + use))

    def test_a_label_that_would_take_all_memory(self):
        content = ((np.zeros((3, 2)), np.array([0, 1, 2 * 10**8])),) * 3
        with self.assertRaisesRegex(DataError, "label 200000000 is out of range; expected at most 65535"):
            load(str(self.write(pickle.dumps(content))))

    @parameterized.parameters(
        ((1, 2), "expected three .* pairs"),
        ("text", "expected three .* pairs"),
        (((1, 2),) * 3, "expected a pair of NumPy arrays"),
        (((np.zeros(3), np.zeros(3, int)),) * 3, r"images of shape \(3,\)"),
        (((np.zeros((3, 2)), np.zeros(2, int)),) * 3, "3 rows but 2 labels"),
        (((np.full((3, 2), np.nan), np.arange(3)),) * 3, "row 0, column 0 is NaN"),
    )
    def test_other_content(self, content, message):
        with self.assertRaisesRegex(DataError, f"mnist.pkl.gz.*{message}"):
            load(str(self.write(pickle.dumps(content))))

    def damage(self, step):
        """Truncations and flipped bytes, one in `step`, end in an error or a sound load."""
        content, _ = pairs(shape=(2, 3))
        plain = pickle.dumps(content, 2)
        for size in range(0, len(plain), step):
            with self.assertRaises(DataError):
                theano_pickle.read(self.write(plain[:size]))
        for place in range(0, len(plain), step):
            damaged = bytearray(plain)
            damaged[place] ^= 0xFF
            try:
                source = theano_pickle.read(self.write(bytes(damaged)))
            except DataError as error:
                self.assertIn("mnist.pkl.gz", str(error))
            else:
                self.assertTrue(np.isfinite(source.train.images).all())

    def test_damaged_files(self):
        self.damage(step=13)

    @pytest.mark.exhaustive
    def test_every_damaged_byte(self):
        self.damage(step=1)

    def test_a_truncated_gzip_file(self):
        content, _ = pairs()
        data = self.write(pickle.dumps(content)).read_bytes()
        self.path.write_bytes(data[: len(data) // 2])
        with self.assertRaisesRegex(DataError, "mnist.pkl.gz: damaged or truncated gzip file"):
            theano_pickle.read(self.path)


if __name__ == "__main__":
    absltest.main()
