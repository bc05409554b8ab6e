"""Every hyper-parameter, once: its name, default, meaning and check.

The command line makes its flags from the fields of these classes; a Python program fills in the classes directly.
"""

import dataclasses
import importlib.util
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from tfpipe.exceptions import ConfigError, OptionError
from tfpipe.text import is_one_line

_SMALLEST, _LARGEST = 2.0**-126, 2.0**127
Check = Callable[[Any], str | None]
# Why it does not go without test examples.
SGD_TESTS = "goes with solver=lbfgs; sgd measures its models on test examples: take at least 1"
# The figures of `select` that are sums over the validation examples, which every solver makes.
SUMS = ("cost", "error", "balanced_error")
# The image_size of pictures that keep theirs.
NATIVE = "native"
# The options of data that name files or folders, which may lie in an object store.
OF_FILES = ("dataset", "labels", "images_dir", "sample_weight", "groups", "split_file")
# An address, also where pathlib has taken one of its slashes; `C:/` of Windows is none.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/")
# What of the work of a solver each of several devices or processes has.
_SHARED_BY = {"sgd": "heads", "lbfgs": "rows"}
Value = TypeVar("Value")


def _option(default: Any, help: str, check: Check | None = None, choices: tuple[str, ...] = ()) -> Any:
    """A field that carries what a flag needs: `check` returns what is wrong with a value, or None."""
    metadata = {"help": help, "check": check, "choices": choices, "of": None, "settled": None, "none": None}
    return dataclasses.field(default=default, metadata=metadata)


def _option_of(solver: str, settled: Any, help: str, check: Check | None = None, none: str | None = None) -> Any:
    """The same, of one solver alone.

    It is None until somebody gives it a value, or the solver is settled: then it is `settled`. `none` is a word that
    means None on the command line.
    """
    by_default = "" if settled is None else f"; default: {str(settled).lower()}"
    metadata = {
        "help": f"{solver}: {help}{by_default}", "check": check and _or_none(check), "choices": (),
        "of": solver, "settled": settled, "none": none,
    }  # fmt: skip
    return dataclasses.field(default=None, metadata=metadata)


def _or_none(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _integer(least: int, most: int = 2**31 - 1) -> Check:
    def check(value: Any) -> str | None:
        if _is_integer(value) and least <= value <= most:
            return None
        return f"must be an integer of at least {least}" + (f" and at most {most}" if _is_integer(value) else "")

    return check


def _number(accepts: Callable[[float], bool], words: str) -> Check:
    def check(value: Any) -> str | None:
        return None if _is_number(value) and accepts(value) else f"must be {words}"

    return check


def _numbers(accepts: Callable[[float], bool], words: str) -> Check:
    def check(values: tuple[Any, ...]) -> str | None:
        if not values:
            return f"must be one number or a list like 0.03,0.1,0.3, {words}"
        wrong = [value for value in values if not (_is_number(value) and accepts(value))]
        return f"{wrong[0]} is not {words}" if wrong else None

    return check


def _size(value: Any) -> str | None:
    if value == NATIVE:
        return None
    sizes = isinstance(value, tuple) and len(value) == 2 and all(_is_integer(v) and v >= 1 for v in value)
    return None if sizes else f"must be HEIGHT,WIDTH, two integers of at least 1, or {NATIVE}"


def _one_line(value: Any) -> str | None:
    # What a flagfile can hold and give back.
    if isinstance(value, str) and value and value == value.strip() and is_one_line(value):
        return None
    return "must be a name or a path of characters that can be shown, without space around it"


def _folder_here(value: Any) -> str | None:
    if isinstance(value, str) and _ADDRESS.match(value):
        return "must be a folder of this machine: TensorFlow Datasets is not read from a store"
    return _one_line(value)


def _columns(value: Any) -> str | None:
    expected = "must be names of columns, with commas between them, and so without commas and space around them"
    if not isinstance(value, tuple) or any(_one_line(name) or "," in name for name in value):
        return expected
    return None if len(set(value)) == len(value) else "names a column twice"


def _split(value: Any) -> str | None:
    if (_is_integer(value) and value >= 1) or (isinstance(value, float) and 0 < value < 1):
        return None
    return "must be a number of examples (an integer of at least 1) or a fraction between 0 and 1"


def _test_split(value: Any) -> str | None:
    problem = None if _is_integer(value) and value == 0 else _split(value)
    return problem and f"{problem}; 0, an integer, takes none"


def _folds(value: Any) -> str | None:
    if _is_integer(value) and value >= 0 and value != 1:
        return None
    return "must be auto, 0 (the validation split), or a number of folds of at least 2"


def _scales(value: Any) -> str | None:
    if isinstance(value, tuple) and sorted(map(str, value)) in (["columns"], ["none"], ["columns", "none"]):
        return None
    return "must be none, columns, or both: none,columns"


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    # Within float32, in which the training computes.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


_POSITIVE = (lambda value: value >= _SMALLEST, "a number above 0 that float32 can hold")
_NOT_NEGATIVE = (lambda value: value >= 0, "a number of at least 0")


class Reading(NamedTuple):
    """How the pictures in files become pixels, but for their size and colours.

    Attributes:
      orientation: `upright`, as their EXIF data says, or as they are `stored`.
      background: `white` or `black`, on which transparent ones are composited; `none`: transparency is dropped.
      gray_max: what is white in gray ones of more than 8 bits a pixel: a value v becomes 256 v / (gray_max + 1),
        rounded down, and at most 255. None: not known, and such pictures are refused.
      fit: what becomes of another shape than the model's: `stretch`, `crop` or `pad`; see `data.sizes.fitted`.
      decoding: `reduced`: JPEG is decoded at 1/2, 1/4 or 1/8 of its size where at least twice the size that is wanted
        remains; `full`: it is not.
    """

    orientation: str = "upright"
    background: str = "white"
    gray_max: int | None = 65535
    fit: str = "stretch"
    decoding: str = "reduced"


class Column(NamedTuple):
    """What a number of a row of features is, in words of the table that it comes from.

    Attributes:
      name: the column of the table.
      value: the number is 1 where the column has this value, as text, and else 0; "" is a missing one. None: the number
        is what the column has.
    """

    name: str
    value: str | None = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value}"


# How they were read before there was a choice.
AS_STORED = Reading("stored", "none", decoding="full")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which data, how it is divided, how it is scaled."""

    dataset: str = _option(
        "digits",
        "'digits' (1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn); a folder with the four "
        "IDX files of MNIST or of a set in its form (plain or .gz); a folder with a folder of pictures for each class, "
        "perhaps below train, validation and test, or other usual names of splits; an .npz file with images and "
        "labels, or X and y, or x_train, y_train, ...; the same in an HDF5, .mat or .safetensors file, in a .pt file "
        "of tensors alone, or in .npy files of a folder, images.npy or images_000.npy, images_001.npy, ...; an .npy "
        "file with images (then --labels has their labels); a .csv or Parquet file, a table of numbers with a column "
        "of labels, or a list of pictures with their labels; a file mnist.pkl.gz as in the Theano tutorial; or a data "
        "set of TensorFlow Datasets by its name, "
        "NAME[/CONFIG][:VERSION][:SPLIT], such as fashion_mnist, emnist/letters, or mnist:train[:10%], which trains on "
        "these and keeps the test split. A file or a folder, here and in other flags of data, may lie in an object "
        "store: s3://BUCKET/NAME, gs://, hdfs://, http:// or https://",
        _one_line,
    )
    labels: str | None = _option(
        None,
        "the .npy file with the labels, where --dataset is an .npy file with images",
        _or_none(_one_line),
    )
    images_key: str | None = _option(
        None,
        "the name of the array with the training images in a file or a folder of several, where the names leave a "
        "doubt; GROUP/NAME in HDF5",
        _or_none(_one_line),
    )
    labels_key: str | None = _option(None, "the same for the array with their labels", _or_none(_one_line))
    label_column: str | None = _option(
        None,
        "the column with the labels of a .csv or Parquet file; default: label, class, target or y",
        _or_none(_one_line),
    )
    categorical: tuple[str, ...] = _option(
        (),
        "columns of a .csv or Parquet file, such as colour,size, of text or integers that stand for categories: each "
        "becomes columns of 0 and 1, one for each value",
        _columns,
    )
    images_dir: str | None = _option(
        None,
        "the folder of the pictures that a .csv or Parquet file names in one of its columns, with or without their "
        "suffix; default: the folder of a .csv that names pictures there",
        _or_none(_one_line),
    )
    numbered_classes: bool = _option(
        False,
        "integer labels of arrays, tables and IDX files are the numbers of the classes from 0 on, also where none is "
        "0, or the file has names for them; default: labels of which the least is not 0, such as -1 and 1, name the "
        "classes that there are",
    )
    sample_weight: str | None = _option(
        None,
        "an .npy file with a number of at least 0 for each row of the training array, before any split is taken from "
        "it: what the example counts in the cost that is minimized, and in the figures of validation and test",
        lambda value: None if value is None else _one_line(value),
    )
    groups: str | None = _option(
        None,
        "an .npy file, or a text file of one value a line, with a value for each of the same rows: examples of equal "
        "values are one group, which is in one split as a whole",
        lambda value: None if value is None else _one_line(value),
    )
    split_file: str | None = _option(
        None,
        "a text file of one word a line, or an .npy file of text, with train, validation or test for each of the same "
        "rows: the split of each example, instead of drawing them",
        _or_none(_one_line),
    )
    data_dir: str | None = _option(
        None,
        "where TensorFlow Datasets keeps prepared data; default: $TFDS_DATA_DIR, or ~/tensorflow_datasets",
        _or_none(_folder_here),
    )
    download: bool = _option(True, "let TensorFlow Datasets download what is not prepared there")
    validation_split: float | int | None = _option(
        None,
        "examples for validation, as a number or as a fraction of the training examples, from which they are taken; "
        "used where the data brings no validation split; default: 0.2, and for lbfgs folds instead where there are "
        "fewer than 10,000 examples (see folds)",
        _or_none(_split),
    )
    test_split: float | int = _option(
        0.2,
        "the same for the test split; 0, for lbfgs alone: none are taken, so no test error is told; a test split that "
        "the data brings is used all the same",
        _test_split,
    )
    split_order: str = _option(
        "stratified",
        "which examples these are; stratified: drawn at random, of each class its share; end: the last ones of the "
        "data, first for the test and before them for validation",
        choices=("stratified", "end"),
    )
    split_seed: int = _option(
        0,
        "determines which examples are drawn where split_order is stratified; seed has no part in that",
        _integer(0, 2**63 - 1),
    )
    drop_duplicates: bool = _option(
        False,
        "leave out training examples whose images equal those of an example before them, or of a validation or test "
        "split that the data brings; default: none is left out, and the log counts what is in two splits",
    )
    pixel_max: float | None = _option(
        None,
        "images are divided by it; default: what the data is (255 for bytes, 16 for digits, 1 for floating-point "
        "images); floating-point images that do not exceed 1 are scaled already and left as they are",
        _or_none(_number(*_POSITIVE)),
    )

    image_size: tuple[int, int] | str | None = _option(
        None,
        "height and width, such as 48,24, to which pictures of a folder or of TensorFlow Datasets are brought; native: "
        "they keep theirs, which must be one; default: native for TensorFlow Datasets, and for pictures of a folder "
        "whose sizes are one of at most 128,128; of others the longer side becomes 128 at most, and where their shapes "
        "differ both do",
        _or_none(_size),
    )
    fit: str = _option(
        "stretch",
        "what becomes of pictures, of a folder or of TensorFlow Datasets, whose shape is another than that of the size "
        "they are brought to; stretch: they take it; crop: the largest part of it in their middle is taken; pad: they "
        "keep theirs, in the middle of a ground of the background's colour (white if that is none)",
        choices=("stretch", "crop", "pad"),
    )
    color_mode: str | None = _option(
        None,
        "how pictures of a folder or of TensorFlow Datasets are read; default: grayscale unless one has colours",
        choices=("grayscale", "rgb"),
    )
    orientation: str = _option(
        "upright",
        "pictures of a folder; upright: turned as their EXIF data says, as photos of phones need it; stored: as their "
        "pixels lie in the file",
        choices=("upright", "stored"),
    )
    background: str = _option(
        "white",
        "on what transparent pictures of a folder are composited; none: transparency is dropped, and what is hidden "
        "below it shows",
        choices=("white", "black", "none"),
    )
    gray_max: int | None = _option(
        None,
        "the value that is white in gray pictures of a folder with more than 8 bits a pixel; default: the largest of "
        "as many bits as the largest value in the training pictures has, such as 4095 of a camera with 12 bits; where "
        "none of them has more than 8, other such pictures are refused",
        _or_none(_integer(1)),
    )
    decoding: str = _option(
        "reduced",
        "JPEG pictures of a folder; reduced: decoded at 1/2, 1/4 or 1/8 of their size, which is faster, where at least "
        "twice the size that they are brought to remains; full: decoded as they are",
        choices=("reduced", "full"),
    )
    skip_bad_images: bool = _option(False, "leave out pictures of a folder that do not decode, and count them")
    standardize: tuple[str, ...] | None = _option(
        None,
        "columns: scale each column of the images to mean 0 and variance 1 on the training examples, instead of "
        "dividing all by pixel_max (the flag without a value means that too); none: do not; none,columns: lbfgs tries "
        "both, and takes what validates better; default: none, and for lbfgs both where images are rows of features. "
        "The saved model takes raw input",
        _or_none(_scales),
    )

    def __post_init__(self) -> None:
        _normalize(self)
        _check_fields(self)
        if self.standardize == ("columns",) and self.pixel_max is not None:
            raise ConfigError("pixel_max", self.pixel_max, "does not go with standardize, which takes its place")
        if self.split_order == "end" and self.split_seed:
            raise ConfigError(
                "split_seed", self.split_seed, "goes with split_order=stratified; from the end none is drawn"
            )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train. `learning_rate` and `l2` take one number or several; each pair of them trains one head.

    An option of one solver alone is None where it is not given; `settled` tells what it is then. A `learning_rate` and
    an `l2` of None are left to the data: see `Solver.config`.
    """

    solver: str = _option(
        "auto",
        "what trains; sgd: minibatch gradient descent with early stopping, as in the Theano tutorial; lbfgs: L-BFGS, "
        "which goes to the optimum, and says how near that is; auto: sgd where an option of sgd alone is given, else "
        "lbfgs",
        choices=("auto", "lbfgs", "sgd"),
    )
    l2: tuple[float, ...] | None = _option(
        None,
        "weight decay: l2/2 times the squared norm of W is added to the cost that is minimized (b is free of it); "
        "a list or a range (0,log:1e-6:1e-2:5) multiplies the heads; default: 0 for sgd, and for lbfgs values that the "
        "training data gives, from large ones down as long as that helps",
        _or_none(_numbers(*_NOT_NEGATIVE)),
    )
    select: str | None = _option(
        None,
        "the figure of the validation by which the best models, the patience of sgd and the choice among heads go; "
        "error, the share of wrong predictions, is the Theano tutorial's; balanced_error, its mean over the classes, "
        "lets rare ones count as much as others; for lbfgs also macro_f1, the mean of F1 over the classes, auc, the "
        "mean of the areas under the ROC curves of each class against the rest, and top5, the share of labels that are "
        "none of the five most probable classes; default: cost",
        choices=(*SUMS, "macro_f1", "auc", "top5"),
    )
    batch_size: int | None = _option_of("sgd", 600, "examples in a minibatch", _integer(1))
    learning_rate: tuple[float, ...] | None = _option_of(
        "sgd",
        None,
        "step size of gradient descent; a list (0.03,0.1,0.3) or a range (log:1e-3:1:7, seven values, each the same "
        "factor above the one before) trains one head for each value, side by side; default: one value that the "
        "training data allows, the inverse of the largest curvature that the cost can have on its minibatches",
        _numbers(*_POSITIVE),
    )
    epochs: int | None = _option_of("sgd", 1000, "passes over the training examples, at most", _integer(1))
    patience: int | None = _option_of(
        "sgd", 5000, "iterations to train at least, before early stopping may end the run", _integer(1)
    )
    patience_increase: float | None = _option_of(
        "sgd",
        2.0,
        "a validation figure better by improvement_threshold raises the patience to this times the iteration",
        _number(lambda value: value >= 1, "a number of at least 1"),
    )
    improvement_threshold: float | None = _option_of(
        "sgd",
        0.995,
        "a validation figure below this times the best one so far counts as an improvement",
        _number(lambda value: 0 < value <= 1, "a number above 0 and at most 1"),
    )
    validation_frequency: int | None = _option_of(
        "sgd",
        0,
        "iterations between validations; 0: once an epoch, at most every patience/2 iterations",
        _integer(0),
    )
    shuffle: bool | None = _option_of("sgd", True, "draw the training examples in a new order every epoch")
    drop_remainder: bool | None = _option_of(
        "sgd",
        False,
        "leave out the last minibatch when it is not full, in training, validation and test, as the Theano "
        "tutorial does",
    )
    max_iter: int | None = _option_of(
        "lbfgs",
        1000,
        "iterations of a head at most; a warning says where they did not reach the tolerance",
        _integer(1),
    )
    tolerance: float | None = _option_of(
        "lbfgs",
        1e-4,
        "how far above the least cost, l2 included, the saved model may be, relative to its cost; those that are only "
        "tried, ten times as far. Where l2 is 0, what the largest entry of the gradient may be",
        _number(*_POSITIVE),
    )
    folds: int | None = _option_of(
        "lbfgs",
        None,
        "the parts of the training and validation examples for cross-validation: heads that train on the others are "
        "validated on each; 0: none, the validation split is for that; auto, the default: 5 where these are fewer than "
        "10,000, the data brings no validation split, and validation_split is not given; else 0",
        _folds,
        none="auto",
    )
    refit: bool | None = _option_of(
        "lbfgs",
        True,
        "fit the setting that is taken once more, on training and validation examples together; norefit, which goes "
        "without folds alone, keeps the model of the training examples",
    )
    shots: tuple[float, ...] | None = _option_of(
        "lbfgs",
        None,
        "fit the setting that is taken to so many training rows of each class too, and measure that on the test: "
        "1,2,4,8,16 gives a curve",
        _numbers(lambda value: value >= 1 and float(value).is_integer(), "a whole number of at least 1"),
    )
    subsets: tuple[float, ...] | None = _option_of(
        "lbfgs",
        None,
        "the same for shares of the training rows: 0.01,0.1,1 gives a learning curve",
        _numbers(lambda value: 0 < value <= 1, "a number above 0 and at most 1"),
    )
    seeds: int | None = _option_of(
        "lbfgs", None, "how many draws of each of shots and subsets; default: 5", _integer(1)
    )
    bootstrap: int | None = _option_of(
        "lbfgs", None, "the same for so many draws of as many rows as there are, with replacement", _integer(2)
    )
    reselect: bool | None = _option_of(
        "lbfgs",
        None,
        "choose a setting for each draw anew, of all that were tried: on the validation split; with folds on the "
        "training rows that are in no draw of its number",
    )
    calibrate: bool | None = _option_of(
        "lbfgs",
        None,
        "divide the logits of the saved model by a temperature, fitted on examples that the models of the setting that "
        "is taken have not seen, so that its probabilities are worth what they say; no prediction changes",
    )
    init: str | None = _option_of(
        "lbfgs",
        None,
        "the model.npz of an earlier run on data of the same kind: where the first heads begin, for fewer evaluations; "
        "what is found is the same. It goes with l2. Classes and columns of tables are matched by their names",
        _one_line,
    )
    seed: int = _option(
        0,
        "determines every order of the examples",
        _integer(0, 2**63 - 1),
    )
    class_weight: str | None = _option(
        None,
        "balanced: an example counts N / (K N_k) in the cost that is minimized, for N_k of N training examples in its "
        "class, and K classes that have any, as in scikit-learn; validation and test do not weigh classes",
        choices=("balanced",),
    )
    device: str = _option(
        "auto", "where to compute; auto: the GPU if there is a usable one", choices=("auto", "cpu", "gpu")
    )
    strategy: str = _option(
        "auto",
        "who shares the work; none: nobody, it is done by one device of one process; devices: all devices of this "
        "process; multi_worker: the processes that TF_CONFIG names, as tfpipe launch does; auto: these, if it names "
        "any, else all GPUs of this process",
        choices=("auto", "none", "devices", "multi_worker"),
    )
    distribute: str = _option(
        "auto",
        "what of the work each device or process has; heads, for sgd: all rows of some heads; rows, for lbfgs: some "
        "rows of all heads; auto: this, of several processes where they take less time than one by the model of "
        "docs/distributed.md",
        choices=("auto", "heads", "rows"),
    )
    precision: str = _option(
        "float32",
        "what is computed in; float32: where images are bytes also in integers, as exactly; float64, for comparisons, "
        "makes the model float64 too (images are held as float32 at most); bfloat16, for GPUs "
        "and processors with AVX512_BF16, rounds W, and images that are no bytes, to 8 bits before each matrix "
        "product of training, sums in float32, and validates in float32; screen trains a grid in bfloat16, and what is "
        "within reach of the best again in float32: the same head is selected, and its figures are those of float32",
        choices=("float32", "float64", "bfloat16", "screen"),
    )
    tf32: bool = _option(
        False, "let a GPU round the inputs of matrix products to TensorFloat-32: faster, other figures"
    )
    checkpoint_every: float = _option(
        15.0,
        "seconds between two savings of the state, from which the same command goes on; 0: after "
        "every span, a second at most; at the end, and when a signal ends the run, it is saved in any case",
        _number(*_NOT_NEGATIVE),
    )
    tensorboard: bool = _option(True, "write curves, pictures and tables for TensorBoard to the workdir")
    profile: bool = _option(False, "record a few spans for TensorBoard's profiler, in the workdir")

    def __post_init__(self) -> None:
        _normalize(self)
        _check_fields(self)
        solver = self.settled_solver
        if solver == "sgd" and self.select not in (None, *SUMS):
            problem = "goes with solver=lbfgs; sgd chooses while it trains, by sums over examples"
            raise ConfigError("select", self.select, f"{problem}: take {', '.join(SUMS[:-1])} or {SUMS[-1]}")
        if self.distribute not in ("auto", _SHARED_BY[solver]):
            other = "lbfgs" if solver == "sgd" else "sgd"
            problem = f"goes with solver={other}; the work of {solver} is cut by {_SHARED_BY[solver]}: leave it out"
            raise ConfigError("distribute", self.distribute, problem)
        for field in dataclasses.fields(self):
            of, value = field.metadata["of"], getattr(self, field.name)
            if of not in (None, solver) and value is not None:
                other = f"solver={solver}" if self.solver != "auto" else f"{self._given(solver)[0]}, one of {solver}"
                raise ConfigError(field.name, flag_value(value), f"is an option of {of}, and does not go with {other}")

        for name, others in (("seeds", ("shots", "subsets")), ("reselect", ("shots", "subsets", "bootstrap"))):
            if getattr(self, name) and not any(getattr(self, other) for other in others):
                raise ConfigError(name, flag_value(getattr(self, name)), f"goes with {' or '.join(others)}")
        if self.init is not None and self.l2 is None:
            problem = (
                "goes with l2, such as that of this model; without it the values begin where W = 0 is a good start"
            )
            raise ConfigError("init", self.init, problem)

    @property
    def settled_solver(self) -> str:
        """`lbfgs` or `sgd`: what trains."""
        return self.solver if self.solver != "auto" else "sgd" if self._given("sgd") else "lbfgs"

    def settled(self, solver: str | None = None) -> "TrainConfig":
        """The same for `solver`, or None for the one that trains, with a value for each option that it has.

        What is left to the data stays None.

        Raises:
          ConfigError: an option of another solver is given.
        """
        solver = solver or self.settled_solver
        values: dict[str, Any] = {"solver": solver, "select": self.select or "cost"}
        if solver == "sgd" and self.l2 is None:
            values["l2"] = (0.0,)
        for field in dataclasses.fields(self):
            if field.metadata["of"] == solver and getattr(self, field.name) is None:
                values[field.name] = field.metadata["settled"]
        return dataclasses.replace(self, **values)

    def _given(self, solver: str) -> list[str]:
        """The options of `solver` alone that are given."""
        fields = dataclasses.fields(self)
        return [f.name for f in fields if f.metadata["of"] == solver and getattr(self, f.name) is not None]

    def check_goes_with(self, data: DataConfig) -> None:
        """Raises ConfigError if the solver cannot train on data that is loaded so."""
        if self.settled_solver != "sgd":
            return
        if data.test_split == 0:
            raise ConfigError("test_split", 0, SGD_TESTS)
        if data.standardize and len(data.standardize) > 1:
            scales = flag_value(data.standardize)
            raise ConfigError("standardize", scales, "are scales for solver=lbfgs; sgd takes one, none or columns")

    def check_packages(self) -> None:
        """Raises OptionError if what a run with a workdir needs is not installed."""
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise OptionError(
                "tensorboard", True, "needs a package that is not there: pip install tensorboard, or --notensorboard"
            )


def known(value: Value | None) -> Value:
    """The value of an option, of a configuration that is settled."""
    assert value is not None
    return value


def as_scales(value: Any) -> Any:
    """What `standardize` may be in Python, as DataConfig has it: True is `columns`, and False `none`."""
    if isinstance(value, bool):
        return ("columns",) if value else ("none",)
    return (value,) if isinstance(value, str) else value


def is_list(field: "dataclasses.Field[Any]") -> bool:
    """Whether it takes one number or several."""
    return field.type in (tuple[float, ...], tuple[float, ...] | None)


def _normalize(config: DataConfig | TrainConfig) -> None:
    """NumPy's arrays and scalars become plain numbers, and one number where several may stand a tuple of one."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        value = value.tolist() if hasattr(value, "tolist") else value
        if is_list(field) and value is not None:
            value = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        if field.name == "standardize":
            value = as_scales(value)
        if isinstance(value, list):
            value = tuple(value)
        object.__setattr__(config, field.name, value)


def _check_fields(config: DataConfig | TrainConfig) -> None:
    """Raises ConfigError for the first field whose value cannot work."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        choices, check = field.metadata["choices"], field.metadata["check"]
        problem = check(value) if check else None
        if choices and value not in (*choices, field.default):
            problem = f"must be one of {', '.join(choices)}"
        if field.type in (bool, bool | None) and not (isinstance(value, bool) or value is field.default):
            problem = "must be true or false"
        if problem:
            raise ConfigError(field.name, flag_value(value), problem)


def flag_value(value: object) -> str:
    """A value as it stands on the command line."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def flag_lines(config: DataConfig | TrainConfig) -> list[str]:
    """The configuration as the lines of a flagfile."""
    lines = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, bool):
            lines.append(f"--{field.name}" if value else f"--no{field.name}")
        elif value is not None and value != ():
            lines.append(f"--{field.name}={flag_value(value)}")
    return lines
