"""The architecture: imports run one way."""

import ast
import pathlib

from absl.testing import absltest

PACKAGE = pathlib.Path(__file__).parent.parent / "tfpipe"

# A module may import from the layers below its own, and beside it within its own package.
LAYERS = [
    ["exceptions", "quiet", "table"],
    ["config", "limits", "buffers", "files"],
    ["npz"],
    ["data", "checkpoint", "artifact", "patience"],
    ["state", "workdir", "products", "storage", "diagnosis"],
    ["pipeline", "model"],
    ["schedule", "steps", "device", "resumption", "prediction", "scores", "export"],
    ["grid", "report", "monitor"],
    ["evaluation", "keeping", "plan"],
    ["validation"],
    ["run"],
    ["training"],
    ["cli"],
]
# The package itself tells its version, and imports the rest only when a name is asked for.
PACKAGE_ITSELF = "__version__"
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}


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
            (own if package == "tfpipe" else others).add(
                (parts or [PACKAGE_ITSELF])[0] if package == "tfpipe" else package
            )
    return own, others


class StructureTest(absltest.TestCase):
    def test_every_module_has_its_layer(self):
        self.assertEqual({home(path) for path in modules()}, set(HEIGHT))

    def test_imports_run_one_way(self):
        for path in modules():
            own, _ = imported(path)
            for name in own & set(HEIGHT) - {home(path)}:
                self.assertLess(HEIGHT[name], HEIGHT[home(path)], f"{path.name} imports {name}")

    def test_only_the_command_line_knows_flags(self):
        for path in modules():
            if home(path) != "cli":
                text = path.read_text()
                self.assertNotRegex(text, r"absl import .*flags|absl\.flags", path.name)

    def test_what_works_without_tensorflow_does_not_import_it(self):
        for path in modules():
            if home(path) in (
                "config",
                "data",
                "files",
                "npz",
                "checkpoint",
                "state",
                "resumption",
                "workdir",
                "patience",
                "artifact",
            ):
                self.assertNotIn("tensorflow", imported(path)[1], path.name)

    def test_the_public_names(self):
        import tfpipe

        names = {"Examples", "SoftmaxRegression", "Splits", "TrainConfig", "load", "train"}
        self.assertEqual(set(tfpipe.__all__), names)
        for name in names:
            self.assertTrue(callable(getattr(tfpipe, name)))
        with self.assertRaisesRegex(AttributeError, "no attribute 'trian'"):
            tfpipe.trian  # noqa: B018


if __name__ == "__main__":
    absltest.main()
