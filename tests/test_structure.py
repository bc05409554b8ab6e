"""The architecture: imports run one way, and it is said once which."""

import ast
import pathlib

from absl.testing import absltest

PACKAGE = pathlib.Path(__file__).parent.parent / "tfpipe"

# A part imports from the layers below its own, and within itself.
LAYERS = [
    {"cli", "estimator"},
    {"training"},
    {"solvers"},
    {"pipeline", "monitor"},
    {"model"},
    {"data", "doctor"},
    {"disk"},
    {"stores"},
    {"compute", "statistics"},
    {"config", "memory", "text", "log", "version", "exceptions"},
]
DEPTH = {name: depth for depth, layer in enumerate(LAYERS) for name in layer}
# The lowest layer is of single modules, which may use these.
AT_THE_BOTTOM = {"text", "log", "exceptions"}
WITHOUT_TENSORFLOW = (
    "config",
    "memory",
    "text",
    "log",
    "version",
    "exceptions",
    "stores",
    "disk",
    "data",
    "doctor",
    "statistics",
)


def modules():
    return [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or not path.name.startswith("__")]


def home(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """Names of the parts of tfpipe that a module imports, wherever in it; and of other packages."""
    own, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, *parts = name.split(".")
            if package != "tfpipe":
                others.add(package if package != "absl" else ".".join([package, *parts]))
            elif parts:
                own.add(parts[0])
    return own, others


class StructureTest(absltest.TestCase):
    def test_imports_run_one_way(self):
        for path in modules():
            own, _ = imported(path)
            for name in own - {home(path)} - AT_THE_BOTTOM:
                self.assertLess(DEPTH[home(path)], DEPTH[name], f"{path} imports {name}")

    def test_only_the_command_line_knows_flags(self):
        for path in modules():
            if home(path) != "cli":
                self.assertTrue({"absl.flags", "absl.app"}.isdisjoint(imported(path)[1]), path)

    def test_what_works_without_tensorflow_does_not_import_it(self):
        for path in modules():
            if home(path) in WITHOUT_TENSORFLOW and path.name not in ("tfds.py", "trial.py"):
                self.assertNotIn("tensorflow", imported(path)[1], path)

    def test_the_story_is_short(self):
        for path in (PACKAGE / "training").glob("*.py"):
            self.assertLess(len(path.read_text().splitlines()), 250, path)

    def test_the_public_names(self):
        import tfpipe

        names = {
            "Examples",
            "SoftmaxClassifier",
            "SoftmaxClassifierCV",
            "SoftmaxRegression",
            "Splits",
            "TrainConfig",
            "load",
            "train",
        }
        self.assertEqual(set(tfpipe.__all__), names)
        for name in names:
            self.assertTrue(callable(getattr(tfpipe, name)))
        with self.assertRaisesRegex(AttributeError, "no attribute 'trian'"):
            tfpipe.trian  # noqa: B018


if __name__ == "__main__":
    absltest.main()
