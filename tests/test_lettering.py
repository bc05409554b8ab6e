import contextlib
import math
import pathlib
import warnings

import matplotlib
import numpy as np
from absl.testing import absltest, parameterized
from PIL import Image, ImageDraw, ImageFont

from tfpipe import Examples, Splits
from tfpipe.data import description, lettering
from tfpipe.monitor import pictures

FONTS = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
# matplotlib's own STIX has it, and DejaVu Sans does not: a d with a hook.
HOOKED = "\u1d81"
# In nobody's font: private use.
NOWHERE = "\uf123"


def drawn(text, size=20, width=200):
    """[h, w] bool: where there is ink."""
    picture = Image.new("L", (width, 2 * size), "white")
    lettering.draw(ImageDraw.Draw(picture), (0, 0), text, size)
    return np.asarray(picture) < 128


def by(font, text, size=20, width=200):
    """The same as Pillow draws it in one font, on the line of DejaVu Sans."""
    picture = Image.new("L", (width, 2 * size), "white")
    base, _ = ImageFont.truetype(str(FONTS / "DejaVuSans.ttf"), size).getmetrics()
    ImageDraw.Draw(picture).text((0, base), text, "black", ImageFont.truetype(str(FONTS / font), size), anchor="ls")
    return np.asarray(picture) < 128


class LetteringTest(parameterized.TestCase):
    def test_plain_text_is_in_dejavu_sans(self):
        np.testing.assert_array_equal(drawn("Žluťoučký 5"), by("DejaVuSans.ttf", "Žluťoučký 5"))
        length = ImageFont.truetype(str(FONTS / "DejaVuSans.ttf"), 20).getlength("Žluťoučký 5")
        self.assertEqual(lettering.length("Žluťoučký 5", 20), math.ceil(length))
        self.assertEqual(lettering.families(["Žluťoučký"]), ["DejaVu Sans"])

    def test_what_it_lacks_is_in_another_font(self):
        self.assertEqual(lettering.drawable(f"a{HOOKED}"), f"a{HOOKED}")
        self.assertLen(lettering.families([f"a{HOOKED}"]), 2)
        left = lettering.length("a", 20)
        ink = drawn(f"a{HOOKED}")
        np.testing.assert_array_equal(ink[:, :left], by("DejaVuSans.ttf", "a")[:, :left])
        box = by("DejaVuSans.ttf", f"a{HOOKED}")
        self.assertTrue(ink[:, left:].any())
        self.assertFalse(np.array_equal(ink, box))

    def test_what_no_font_has_is_an_escape(self):
        self.assertEqual(lettering.drawable(f"x{NOWHERE}y\n"), r"x\uf123y\n")
        self.assertEqual(lettering.drawable("\U0010fffd"), r"\U0010fffd")
        self.assertEqual(lettering.families([NOWHERE]), ["DejaVu Sans"])

    @parameterized.parameters(
        ("cat", "cat"),
        ("אבג", "גבא"),
        ("אב cat", "cat בא"),
        ("cat אב גד", "cat דג בא"),
        ("אב 12 גד", "דג 12 בא"),
        ("אב (גד)", "(דג) בא"),
        ("שָׁב", "בשָׁ"),
    )
    def test_words_from_right_to_left_as_they_stand(self, name, expected):
        self.assertEqual(lettering.visual(name), expected)

    def test_a_name_from_right_to_left_turns_nothing_else_round(self):
        self.assertEqual(lettering.isolated("cat"), "cat")
        first, second = "אב", "גדה"
        caption = f"{lettering.isolated(first)} → {lettering.isolated(second)}, 9%"
        ink = drawn(caption)
        x = 0
        for part in (first, " → ", second, ", 9%"):  # From left to right, each as if it stood alone.
            width = lettering.length(part, 20)
            np.testing.assert_array_equal(ink[:, x : x + width], drawn(part)[:, :width])
            x += width
        self.assertEqual(lettering.length(caption, 20), x)

    def test_letters_of_a_name_stand_from_right_to_left(self):
        wide = lettering.length("ב", 20) - 1
        np.testing.assert_array_equal(drawn("אב")[:, :wide], drawn("ב")[:, :wide])


class NamesInPicturesTest(parameterized.TestCase):
    def test_short_names_with_escapes(self):
        self.assertEqual(pictures.shortened("a" * 16), "a" * 16)
        self.assertEqual(pictures.shortened(NOWHERE * 6), r"\uf123" * 6)
        self.assertEqual(pictures.shortened(NOWHERE * 7), r"\uf123" * 5 + "…")
        self.assertEqual(pictures.shortened("a" * 12 + NOWHERE * 6), "a" * 12 + r"\uf123" * 3 + "…")

    def test_the_confusion_matrix_warns_of_no_glyph(self):
        names = ["שלום", f"{HOOKED}", pictures.shortened(f"{NOWHERE}猫")]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure = pictures.confusion_matrix(np.eye(3, dtype=int), names)
            pictures.png(figure)
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        self.assertEqual(labels[0], lettering.for_matplotlib("שלום"))
        self.assertEqual(labels[1], HOOKED)
        self.assertStartsWith(labels[2], r"\uf123")

    def test_long_captions_leave_fewer_tiles_in_a_row(self):
        tiles = np.full((12, 8, 8, 3), (10, 200, 30), np.uint8)
        for caption, columns in (("a", 10), ("a" * 45, 4)):
            picture = np.asarray(pictures.sheet(tiles, [caption] * 12))
            is_tile = (picture == (10, 200, 30)).all(axis=-1)
            self.assertEqual(is_tile[8].sum(), columns * 96)
            self.assertEqual(is_tile.sum(), 12 * 96 * 96)
            self.assertLess(picture.shape[1], 1600)

    def test_a_sheet_says_what_it_leaves_out(self):
        tiles = np.zeros((3, 8, 8, 3), np.uint8)
        plain = np.asarray(pictures.sheet(tiles, ["a", "b", "c"]))
        noted = np.asarray(pictures.sheet(tiles, ["a", "b", "c"], note="the first 3 of 9"))
        np.testing.assert_array_equal(noted[: len(plain) - 1], plain[:-1])
        self.assertTrue((noted[len(plain) :] < 128).any())

    @parameterized.parameters(100, 120)
    def test_the_contact_sheet_of_many_classes(self, n_classes):
        images = np.full((n_classes, 4, 4), 255, np.uint8)
        examples = Examples(images, np.arange(n_classes))
        names = tuple(f"{number}" for number in range(n_classes))
        sheet = np.asarray(description.contact_sheet(Splits(examples, examples, examples, names)))
        rows = 100 * (48 + 4) + 4
        if n_classes == 100:
            self.assertLen(sheet, rows)
        else:
            self.assertTrue((sheet[rows:] < 128).any())

    def test_fonts_that_cannot_be_opened_are_passed_over(self):
        from matplotlib import font_manager

        entry = font_manager.FontEntry(fname="/no/such/font.ttf", name="A font")
        with contextlib.ExitStack() as stack:
            font_manager.fontManager.ttflist.insert(0, entry)
            stack.callback(font_manager.fontManager.ttflist.remove, entry)
            self.assertEqual(lettering.drawable("\uf124"), r"\uf124")


if __name__ == "__main__":
    absltest.main()
