import json
import pathlib

import numpy as np
from absl.testing import absltest
from PIL import ExifTags, Image, PngImagePlugin

from tests.command import result, tfpipe
from tfpipe.config import DataConfig
from tfpipe.data import survey


def written(folder):
    """A folder of pictures of many kinds, and of other files."""
    folder = pathlib.Path(folder)
    for of_class in ("cat", "dog"):
        (folder / of_class).mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
    rgb = Image.fromarray(pixels)
    for number in range(4):
        rgb.convert("L").save(folder / "cat" / f"{number}.png")
    rgb.save(folder / "dog" / "rgb.bmp")
    rgb.convert("RGBA").save(folder / "dog" / "rgba.png")
    rgb.convert("P").save(folder / "dog" / "palette.gif")
    rgb.convert("CMYK").resize((6, 8)).save(folder / "dog" / "cmyk.jpg")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 16).save(folder / "dog" / "deep.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    rgb.save(folder / "dog" / "turned.jpg", exif=exif)
    exif[ExifTags.Base.Orientation] = 3
    rgb.save(folder / "dog" / "turned.png", exif=exif)
    rgb.resize((3, 2)).save(folder / "beside.png")
    (folder / "cat" / "bad.png").write_bytes(b"no picture")
    (folder / "cat" / "notes.txt").write_text("which cats")
    (folder / "cat" / ".hidden").write_text("")
    return folder


class SurveyTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = written(self.create_tempdir().full_path)

    def test_by_hand(self):
        found = survey.of_data(DataConfig(str(self.folder)))
        self.assertEqual(list(found.pop("bad")), ["cat/bad.png"])
        self.assertEqual(
            found,
            {
                "files": 13,
                "formats": {"PNG": 8, "JPEG": 2, "GIF": 1, "BMP": 1},
                "sizes": [
                    {"height": 8, "width": 10, "files": 9},
                    {"height": 2, "width": 3, "files": 1},
                    {"height": 8, "width": 6, "files": 1},
                    {"height": 10, "width": 8, "files": 1},
                ],
                "different_sizes": 4,
                "modes": {"RGB": 4, "gray": 4, "CMYK": 1, "gray, 16 bits": 1, "palette": 1, "RGBA": 1},
                "orientations": {"1": 10, "6": 1, "3": 1},
                "transparent": 1,
                "deep": 1,
                "coloured": 7,
                "bad_files": 1,
                "skipped": ["cat/notes.txt"],
                "skipped_files": 1,
                "hidden": 1,
            },
        )

    def test_the_table(self):
        lines = survey.table(survey.of_data(DataConfig(str(self.folder)))).splitlines()
        self.assertEqual(
            lines,
            [
                "picture files      13",
                "formats            8 PNG, 2 JPEG, 1 GIF, 1 BMP",
                "height x width     9 of 8 x 10, 1 of 2 x 3, 1 of 8 x 6, 1 of 10 x 8",
                "modes              4 RGB, 4 gray, 1 CMYK, 1 gray, 16 bits, 1 palette, 1 RGBA",
                "orientations       10 upright, 1 turned (EXIF 6), 1 turned (EXIF 3)",
                "do not open        1: cat/bad.png",
                "no pictures        1: cat/notes.txt",
                "hidden             1",
                "--image_size       concerns 3 of 13: of another size than most",
                "--fit              concerns 3 of 13: the same",
                "--color_mode       concerns 7 of 13: with colours by their mode",
                "--orientation      concerns 2 of 13: turned upright",
                "--background       concerns 1 of 13: transparent",
                "--gray_max         concerns 1 of 13: gray of more than 8 bits a pixel",
                "--decoding         concerns 2 of 13: JPEG",
                "--skip_bad_images  concerns 1 of 13: that do not open",
            ],
        )

    def test_long_lists_are_cut_and_counted(self):
        for number in range(120):
            (self.folder / "cat" / f"{number:03}.txt").write_text("")
        found = survey.of_data(DataConfig(str(self.folder)))
        self.assertLen(found["skipped"], 100)
        self.assertEqual(found["skipped_files"], 121)
        shown = ", ".join(f"cat/{number:03}.txt" for number in range(5))
        self.assertIn(f"no pictures        121: {shown} and 116 more", survey.table(found).splitlines())

    def test_orientation_behind_the_pixels_of_a_png(self):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 8
        path = self.folder / "cat" / "0.png"
        with Image.open(path) as picture:
            plain = picture.copy()
        content = PngImagePlugin.getchunks(plain)
        late = (b"eXIf", exif.tobytes()[6:])
        with open(path, "wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n")
            for name, data, *_ in [*content[:-1], late, content[-1]]:
                PngImagePlugin.putchunk(file, name, data)
        self.assertEqual(survey.of_data(DataConfig(str(self.folder)))["orientations"], {"1": 9, "8": 1, "6": 1, "3": 1})

    def test_a_list_has_the_pictures_that_it_names_and_no_others(self):
        path = self.folder / "list.csv"
        names = ["cat/0.png", "cat/1", "dog/turned.jpg", "cat/bad.png", "cat/none.png", "../outside.png", "cat/0.png"]
        path.write_text("".join(f"{line}\n" for line in ["file,label", *(f"{name},a" for name in names)]))
        found = survey.of_data(DataConfig(str(path)))
        self.assertEqual((found["files"], found["formats"]), (4, {"PNG": 2, "JPEG": 1}))
        self.assertEqual((found["orientations"], found["transparent"]), ({"1": 2, "6": 1}, 0))
        self.assertEqual(
            list(found["bad"].items())[1:],
            [("cat/none.png", "is not there"), ("../outside.png", f"leads out of {self.folder}")],
        )
        self.assertEqual((found["bad_files"], found["skipped_files"], found["hidden"]), (3, 0, 0))
        elsewhere = pathlib.Path(self.create_tempdir().full_path) / "list.csv"
        elsewhere.write_text("label,id\n" + "".join(f"{label},{label % 2}\n" for label in range(2)))
        found = survey.of_data(DataConfig(str(elsewhere), images_dir=str(self.folder / "cat")))
        self.assertEqual((found["files"], found["bad"]), (2, {}))

    def test_other_data_has_none(self):
        self.assertIsNone(survey.of_data(DataConfig("digits")))
        self.assertIsNone(survey.of_data(DataConfig("/no/such/folder")))

    def test_the_command_says_what_the_files_are_also_where_they_cannot_be_read(self):
        process = tfpipe("describe", f"--dataset={self.folder}", "--image_size=8,10")
        self.assertEqual(process.returncode, 1)
        content = json.loads(process.stdout)
        self.assertEqual(content["pictures"], survey.of_data(DataConfig(str(self.folder))))
        self.assertIn("bad.png: does not decode", content["problem"])
        lines = process.stderr.splitlines()
        self.assertEqual(lines[0], "picture files      13")
        self.assertEqual(lines[-1], f"tfpipe describe: {content['problem']}")

    def test_the_command(self):
        process = tfpipe("describe", f"--dataset={self.folder}", "--image_size=8,10", "--skip_bad_images")
        content = result(process)
        self.assertEqual(content["pictures"], survey.of_data(DataConfig(str(self.folder))))
        self.assertEqual(sum(part["examples"] for part in content["splits"].values()), 11)


if __name__ == "__main__":
    absltest.main()
