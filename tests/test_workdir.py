import os
import pathlib

from absl.testing import absltest, parameterized

from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import WorkdirError


class WorkdirTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        before = pathlib.Path.cwd()
        os.chdir(self.folder)
        self.addCleanup(os.chdir, before)

    @parameterized.parameters("", " ", "\t\n", pathlib.Path(" "))
    def test_what_is_no_path_is_refused_and_nothing_written(self, path):
        with self.assertRaises(WorkdirError) as caught:
            Workdir(path)
        self.assertEqual(str(caught.exception), f"workdir={str(path)!r}: must be a path")
        self.assertEmpty(list(self.folder.iterdir()))

    def test_the_home_of_nobody_is_refused(self):
        with self.assertRaisesRegex(WorkdirError, "^workdir=~nobody.such/run: .* who is not there; give another path"):
            Workdir("~nobody.such/run")

    def test_a_path_stays_as_it_was_given_and_tells_where_it_is(self):
        (self.folder / "link").symlink_to("elsewhere")
        for given in ("run", "link/run", "."):
            workdir = Workdir(given)
            self.assertEqual((workdir.path, workdir.absolute), (pathlib.Path(given), self.folder / given))
        self.assertEqual(Workdir("/run").absolute, pathlib.Path("/run"))
        self.assertEqual(Workdir("~/run").absolute, pathlib.Path.home() / "run")

    @parameterized.parameters("a\nb", "run ", "\x07")
    def test_what_a_flagfile_cannot_hold_is_refused(self, path):
        with self.assertRaisesRegex(
            WorkdirError, "characters that flags.txt cannot hold; give a folder with another name"
        ):
            Workdir(path).check()

    def test_a_file_in_the_way_is_named(self):
        pathlib.Path("file").touch()
        with self.assertRaisesRegex(WorkdirError, f"^workdir=file/run: {self.folder}/file is a file; give a folder"):
            Workdir("file/run").check()

    def test_it_is_made_and_kept_from_others(self):
        with Workdir("new/run").owned():
            with (
                self.assertRaisesRegex(WorkdirError, rf"is in use by process {os.getpid()} on .*; wait for its end"),
                Workdir("new/run").owned(),
            ):
                self.fail("it was entered twice")
            self.assertEqual(os.listdir("new/run"), ["checkpoints"])
        with Workdir("new/run").owned():
            pass

    def test_the_files_of_a_run_are_told_and_removed_but_not_its_state_or_what_is_not_its_own(self):
        workdir = Workdir("run")
        with workdir.owned():
            self.assertEqual(workdir.name_files(), [])
            workdir.tensorboard.mkdir()
            for path in (workdir.flags, workdir.model, workdir.tensorboard / "events", workdir.path / "notes"):
                path.touch()
            self.assertEqual(workdir.name_files(), ["flags.txt", "tensorboard", "model.npz"])
            workdir.clear()
            self.assertEqual(workdir.name_files(), [])
        self.assertCountEqual(os.listdir("run"), ["checkpoints", "notes"])


if __name__ == "__main__":
    absltest.main()
