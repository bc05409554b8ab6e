import os
import pathlib
from unittest import mock

from absl.testing import absltest

from tfpipe import files


class WriteWholeTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.path = self.folder / "file"

    def test_writes_and_replaces(self):
        for data in (b"old", b"new"):
            files.write_whole(self.path, data)
            self.assertEqual(self.path.read_bytes(), data)
        self.assertEqual(os.listdir(self.folder), ["file"])

    def test_has_the_mode_that_open_gives(self):
        files.write_whole(self.path, b"")
        (self.folder / "plain").write_bytes(b"")
        self.assertEqual(self.path.stat().st_mode, (self.folder / "plain").stat().st_mode)

    def test_a_failure_leaves_the_old_content_and_nothing_else(self):
        files.write_whole(self.path, b"old")
        for name in ("fsync", "replace"):
            full = mock.patch.object(os, name, side_effect=OSError(28, "No space left on device"))
            with full, self.assertRaisesRegex(OSError, "No space left"):
                files.write_whole(self.path, b"new")
            self.assertEqual(self.path.read_bytes(), b"old")
            self.assertEqual(os.listdir(self.folder), ["file"])

    def test_data_is_on_the_disk_before_it_takes_the_place_of_the_old(self):
        calls = []
        originals = {name: getattr(os, name) for name in ("fsync", "replace")}

        def traced(name):
            def call(*arguments):
                calls.append(name)
                return originals[name](*arguments)

            return mock.patch.object(os, name, call)

        with traced("fsync"), traced("replace"):
            files.write_whole(self.path, b"data")
        self.assertEqual(calls, ["fsync", "replace", "fsync"])  # The file, its name, the folder.


if __name__ == "__main__":
    absltest.main()
