import os
import pathlib
from unittest import mock

from absl.testing import absltest

from tfpipe.disk import files


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
        fsync, replace = os.fsync, os.replace

        def traced_fsync(descriptor):
            calls.append(("fsync", os.fstat(descriptor).st_ino))
            fsync(descriptor)

        def traced_replace(source, target):
            calls.append(("replace", os.stat(source).st_ino, target))
            self.assertEqual(pathlib.Path(source).read_bytes(), b"data")
            replace(source, target)

        with mock.patch.object(os, "fsync", traced_fsync), mock.patch.object(os, "replace", traced_replace):
            files.write_whole(self.path, b"data")
        written, folder = self.path.stat().st_ino, self.folder.stat().st_ino
        self.assertEqual(calls, [("fsync", written), ("replace", written, self.path), ("fsync", folder)])

    def test_what_is_no_file_is_not_replaced(self):
        self.path.mkdir()
        os.mkfifo(self.folder / "fifo")
        for path in (self.path, self.folder / "fifo"):
            with self.assertRaisesRegex(OSError, f"is there, and no file: '{path}'"):
                files.write_whole(path, b"")
        self.assertCountEqual(os.listdir(self.folder), ["file", "fifo"])

    def test_errors_name_the_file_that_was_asked_for(self):
        with self.assertRaisesRegex(OSError, f"No such file or directory: '{self.folder}/no/file'"):
            files.write_whole(self.folder / "no" / "file", b"")

    def test_what_a_dead_process_left_is_removed(self):
        (self.folder / ".model.keras.12.new").mkdir()
        (self.folder / ".model.keras.12.new" / "model.keras").touch()
        own = files.temporary_name(self.path)
        for name in ("model.npz", own, ".file.123.new", ".model.npz.4.new", ".mine", ".notes.new"):
            (self.folder / name).touch()
        files.remove_leftovers(self.folder)
        self.assertEqual(sorted(os.listdir(self.folder)), [".mine", ".notes.new", "model.npz"])


if __name__ == "__main__":
    absltest.main()
