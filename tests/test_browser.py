"""A real TensorBoard in a real browser: `make test-browser`. With TFPIPE_SCREENSHOTS=FOLDER it leaves screenshots."""

import decimal
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import unittest
import urllib.error
import urllib.request

import numpy as np
from absl.testing import absltest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.command import result
from tests.command import tfpipe as command

WANTED = os.environ.get("TFPIPE_TEST_BROWSER")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MNIST = os.environ.get("TFPIPE_MNIST_DIR")
SCREENSHOTS = os.environ.get("TFPIPE_SCREENSHOTS")
FLAGFILE = pathlib.Path(__file__).parent.parent / "experiments" / "digits.flags"
SECONDS = 60


def five_digits(value):
    """As JavaScript's toPrecision(5) has it."""
    return format(decimal.Decimal(f"{np.float32(value):.4e}"), "f")


@unittest.skipUnless(WANTED, "only by `make test-browser`")
@unittest.skipUnless(BROWSER and DRIVER, "Chromium and its driver are not installed")
class BrowserTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.shown = ""

    def serve(self, workdir):
        """TensorBoard on a run. Needs the browser, which waits for it."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self.address = f"http://localhost:{port}"
        server = subprocess.Popen(
            [sys.executable, "-m", "tensorboard.main", f"--logdir={workdir / 'tensorboard'}", f"--port={port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        self.wait(self.answers)

    def start_browser(self):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1500,1400", "--no-first-run",
                         "--disable-background-networking", "--disable-component-update", "--disable-sync",
                         f"--user-data-dir={self.folder / 'browser'}"):  # fmt: skip
            options.add_argument(argument)
        self.browser = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        self.addCleanup(self.browser.quit)

    def answers(self):
        try:
            return urllib.request.urlopen(f"{self.address}/data/runs", timeout=5).read() != b"[]"
        except (urllib.error.URLError, ConnectionError):
            return False

    def wait(self, condition, every=0.2):
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.wait import WebDriverWait

        try:
            WebDriverWait(self.browser, SECONDS, poll_frequency=every).until(lambda _: condition())
        except TimeoutException:
            self.fail(f"not within {SECONDS} s: {self.shown[-2000:]}")

    def wait_for(self, *texts):
        """Until the page shows all of these, regular expressions."""

        def shows():
            self.shown = self.browser.find_element("tag name", "body").text
            return all(re.search(text, self.shown) for text in texts)

        self.wait(shows)

    def screenshot(self, name):
        if SCREENSHOTS:
            seen = [b""]

            def is_at_rest():
                seen.append(self.browser.get_screenshot_as_png())
                return seen[-1] == seen[-2]

            self.wait(is_at_rest, every=1)
            pathlib.Path(SCREENSHOTS, f"{name}.png").write_bytes(seen[-1])

    def check_time_series(self, name, *pictures):
        """What one looks for comes before what one looks up, and pictures are shown as they were drawn."""
        self.browser.get(f"{self.address}/#timeseries")
        self.wait_for(*(rf"(?m)^/?{tag}$" for tag in ("cost", "error", *pictures)))
        self.wait_for("(?m)^train$", "(?m)^validation$", "(?m)^test$")
        self.wait(lambda: self.loaded_images() >= 1)
        self.screenshot(name)
        first = [self.shown.index(f"\n{tag}") for tag in ("cost", "error", "/templates", "training")]
        self.assertEqual(first, sorted(first))
        events = EventAccumulator(str(self.folder / "run" / "tensorboard" / "test"), {"tensors": 0}).Reload()
        drawn = {tuple(map(int, events.Tensors(f"error/{tag}")[-1].tensor_proto.string_val[:2])) for tag in pictures}
        self.assertLen(drawn, len(pictures))
        script = "return [...document.querySelectorAll('img')].map(i => [i.naturalWidth, i.naturalHeight])"
        shown = {tuple(size) for size in self.browser.execute_script(script) if min(size) > 50}
        self.assertContainsSubset(shown, drawn)

    def check_hparams(self, name):
        """Every head has its row, with its settings and best values in five digits."""
        report = json.loads((self.folder / "run" / "report.json").read_text())
        self.browser.get(f"{self.address}/#hparams")
        self.browser.refresh()
        columns = ("l2", "learning_rate", "validation_error", "validation_cost", "test_error", "best_iteration")
        digits = len(str(report["heads"] - 1))
        rows = [
            [f"{number:0{digits}}", *(five_digits(head[column]) for column in (*columns, "iterations"))]
            for number, head in enumerate(report["grid"])
        ]
        self.wait_for(*("\n" + re.escape("\n".join(row)) + "\n" for row in rows))
        self.screenshot(name)

    def loaded_images(self):
        script = "return [...document.querySelectorAll('img')].filter(i => i.naturalWidth > 50).length"
        return self.browser.execute_script(script)

    def test_a_run_on_digits(self):
        result(command("train", f"--flagfile={FLAGFILE}", f"--workdir={self.folder / 'run'}"))
        self.start_browser()
        self.serve(self.folder / "run")
        self.check_time_series(
            "tensorboard_digits", "confusion_matrix", "heat_map", "mistakes", "reliability", "templates"
        )
        self.check_hparams("tensorboard_hparams")

    @unittest.skipUnless(MNIST, "TFPIPE_MNIST_DIR names no folder with MNIST's IDX files")
    def test_a_grid_of_24_on_mnist(self):
        arguments = ("--learning_rate=log:0.03:1:6", "--l2=0,1e-5,1e-4,1e-3", "--epochs=15")
        figures = result(command("train", f"--dataset={MNIST}", *arguments, f"--workdir={self.folder / 'run'}"))
        self.assertEqual(figures["heads"], 24)
        self.start_browser()
        self.serve(self.folder / "run")
        self.check_time_series(
            "tensorboard_mnist", "confusion_matrix", "heat_map", "mistakes", "reliability", "templates"
        )
        self.wait_for("(?m)^lowest$", "(?m)^highest$", "(?m)^heads/23$")
        self.check_hparams("tensorboard_mnist_hparams")

    def test_the_page_without_tensorboard(self):
        command("train", f"--flagfile={FLAGFILE}", f"--workdir={self.folder / 'run'}", "--notensorboard")
        self.start_browser()
        self.browser.get((self.folder / "run" / "report.html").as_uri())
        self.wait_for("What each class looks for", "What is taken for what", "The worst classes", "validation error")
        self.assertEqual(self.loaded_images(), 5)
        self.screenshot("report")


if __name__ == "__main__":
    absltest.main()
