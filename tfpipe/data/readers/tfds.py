"""Data sets by their name in TensorFlow Datasets: `mnist`, `emnist/letters`, `cifar10:3.0.2`, `mnist:train[:10%]`.

What is prepared already is read as its files say, without the code that made it; only what is not is downloaded.
"""

import contextlib
import fnmatch
import glob
import itertools
import json
import logging as standard_logging
import pathlib
import re
import socket
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tqdm
from absl import logging
from PIL import Image

from tfpipe import memory
from tfpipe.compute import host, startup
from tfpipe.config import AS_STORED, DataConfig, Reading, flag_value
from tfpipe.data.examples import Examples
from tfpipe.data.pictures import MODES, fitted
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import ConfigError, DataError, brief
from tfpipe.log import log
from tfpipe.memory import check_fits_memory

_NAME = re.compile(
    r"(?P<name>[a-z]\w*)(/(?P<config>[\w+.-]+))?(:(?P<version>(\d+|\*)(\.(\d+|\*)){2}))?(:(?P<split>[a-zA-Z_].*))?"
)
# A feature of another package would be imported by TFDS, and so executed.
_FEATURES_OF_TFDS = "tensorflow_datasets.core.features."
_BATCH = 1024
SECONDS_TO_CONNECT = 5.0
# One data set at a time: meanwhile standard output and TFDS's bars are not as others left them.
_preparing = threading.Lock()


class Name(NamedTuple):
    """A data set of TFDS, as `NAME[/CONFIG][:VERSION][:SPLIT]` says it; None for what it leaves open."""

    name: str
    config: str | None
    version: str | None
    split: str | None

    def __str__(self) -> str:
        return self.name + f"/{self.config}" * bool(self.config) + f":{self.version}" * bool(self.version)


def parse(dataset: str) -> Name | None:
    """The parts of a name; None if `dataset` cannot be one. Whether there is such a data set is another question."""
    match = _NAME.fullmatch(dataset)
    return Name(match["name"], match["config"], match["version"], match["split"]) if match else None


def recognise(dataset: str, path: pathlib.Path) -> Name | None:
    """The parts of a name, where there is no such path."""
    return None if path.exists() else parse(dataset)


def read(
    name: Name,
    *,
    data_dir: str | None,
    download: bool,
    image_size: tuple[int, int] | str | None,
    color_mode: str | None,
    fit: str = DataConfig.fit,
) -> Source:
    """Reads a data set whose supervised form is a picture, or numbers of one shape, with a class.

    Training examples are those of the split that `name` says, by default `train`. The data set's own `validation` and
    `test` are used if they are there, have labels, and are no part of that. The order is that of the files.

    Args:
      name: the data set.
      data_dir: where prepared data lies, or is to lie; None: as TFDS has it, `$TFDS_DATA_DIR` or
        `~/tensorflow_datasets`.
      download: whether what is not prepared may be downloaded.
      image_size: height and width to which pictures are brought; `native` or None: they have one size, and keep it.
      color_mode: `grayscale` or `rgb`; None: as TFDS has them.
      fit: `stretch`, `crop` or `pad`.

    Returns:
      Source: pictures `[N, H, W]` or `[N, H, W, 3]` uint8, or numbers as TFDS has them.

    Raises:
      DataError: there is no such data set or split, it is damaged, has another form, or cannot be downloaded.
    """
    with host.undoing_imports():
        import tensorflow_datasets  # noqa: F401
    with host.leaving_logging_alone(), _without_messages():
        builder = _prepared(name, data_dir) or _builder(name, data_dir)
        if not builder.is_prepared():
            _prepare(builder, name, download=download)
        startup.import_tensorflow()
        form = _form(builder, name, None if isinstance(image_size, str) else image_size, color_mode, fit)
        trained = name.split or "train"
        others = _splits_beside(builder, name, trained)
        splits = [trained, *(split for split in ("validation", "test") if split in others)]
        total = sum(builder.info.splits[split].num_examples for split in splits)
        parts = {split: _read_split(builder, name, split, form, total) for split in splits}
    train = parts.pop(trained)
    if train is None:
        raise DataError(f"{name}: the split {trained} has no labels (all are -1); expected examples with labels")
    for split, examples in parts.items():
        if examples is None:
            log.warning("%s:%s: has no labels (all are -1), and is not used", name, split)
    pixel_max = 255.0 if train.images.dtype == np.uint8 else 1.0
    reading = form.reading if form.is_picture else None
    return Source(train, parts.get("validation"), parts.get("test"), pixel_max, form.class_names, reading=reading)


class _Form(NamedTuple):
    """What an example is made of, and what becomes of it.

    Attributes:
      shape: as TFDS has it, None where examples differ.
      is_picture: whether it can be brought to another size and mode.
      image_size, mode: what pictures are brought to; None: they stay as they are.
      reading: how pictures are read; TensorFlow decodes them.
      class_names: None if labels are mere numbers.
    """

    shape: tuple[int | None, ...]
    is_picture: bool
    image_size: tuple[int, int] | None
    mode: str | None
    reading: Reading
    class_names: tuple[str, ...] | None

    @property
    def stays(self) -> bool:
        """Whether examples have one shape, and stay as they are."""
        return not self.is_picture or (None not in self.shape and self.image_size is None and self.mode is None)

    def fitted(self, pixels: np.ndarray) -> np.ndarray:
        """A picture `[H, W]` or `[H, W, 3]` in the size and mode that were asked for."""
        mode = self.mode or MODES["grayscale" if self.shape[-1] == 1 else "rgb"]
        return fitted(Image.fromarray(pixels), self.image_size or pixels.shape[:2], mode, self.reading)


def _prepared(name: Name, data_dir: str | None) -> Any:
    """A builder that reads what lies prepared under `data_dir`, the newest version that fits; None if none does."""
    import tensorflow_datasets as tfds

    folder = pathlib.Path(data_dir or tfds.core.constants.DATA_DIR).expanduser() / name.name / (name.config or "")
    found = [
        path.parent
        for path in folder.glob("*/features.json")
        if tfds.core.Version.is_valid(path.parent.name) and fnmatch.fnmatch(path.parent.name, name.version or "*")
    ]
    if not found:
        return None
    newest = max(found, key=lambda path: tfds.core.Version(path.name))
    _refuse_foreign_features(newest / "features.json")
    try:
        return tfds.builder_from_directory(newest)
    except Exception as error:  # Damage shows in many kinds of errors.
        raise DataError(f"{newest}: not a prepared data set, or damaged: {brief(error)}") from error


def _builder(name: Name, data_dir: str | None) -> Any:
    """The builder that can make the data set; or one that reads the default configuration, if that is prepared."""
    import tensorflow_datasets as tfds

    try:
        made_by = tfds.builder_cls(name.name)
    except tfds.core.DatasetNotFoundError:
        raise DataError(
            f"{name}: no such file or folder, and no data set of TFDS with this name; expected 'digits', a path, or a "
            "name such as mnist or emnist/letters"
        ) from None
    configs = list(made_by.builder_configs)
    config = name.config or (made_by.default_builder_config.name if configs else None)
    if config is not None and config not in configs:
        known = f"expected {', '.join(configs[:10])}" if configs else f"expected {name.name} alone"
        raise DataError(f"{name}: no configuration {config}; {known}")
    full = name._replace(config=config)
    if config != name.config and (prepared := _prepared(full, data_dir)):
        return prepared
    try:
        options = {key: value for key, value in (("config", config), ("version", name.version)) if value}
        return tfds.builder(name.name, data_dir=data_dir, **options)
    except Exception as error:  # A version that TFDS does not know, a package that the builder needs, ...
        raise DataError(f"{full}: TFDS cannot build it: {brief(error)}") from error


def _prepare(builder: Any, name: Name, *, download: bool) -> None:
    elsewhere = (
        f"with a network, `tfpipe describe --dataset={name} --data_dir=DIR` prepares it; "
        f"then copy DIR/{name.name} to {pathlib.Path(builder.data_dir_root) / name.name}"
    )
    if not download:
        raise DataError(f"{name}: not prepared in {builder.data_dir}, and downloads are off; {elsewhere}")
    if problem := no_way_to(missing_downloads(builder)):
        raise DataError(f"{name}: not prepared in {builder.data_dir}, and {problem}; {elsewhere}")
    startup.import_tensorflow()
    try:
        with _preparing, _on_stderr():
            builder.download_and_prepare()
    except Exception as error:  # Whatever the network, the disk and the builder's own code can raise.
        raise DataError(f"{name}: cannot be prepared in {builder.data_dir}: {brief(error)}") from error


def missing_downloads(builder: Any) -> list[str]:
    """The addresses that a builder of TFDS says it downloads, without those of which TFDS will find the file."""
    from tensorflow_datasets.core.download import resource

    downloads = pathlib.Path(builder.data_dir_root) / "downloads"

    def is_there(url: str, info: Any) -> bool:
        if info and info.filename and (downloads / "manual" / info.filename).exists():
            return True
        # The names that TFDS gives, by the checksum or by the address; in which folder depends on its version.
        names = [resource.get_dl_fname(url, checksum) for checksum in (info and info.checksum, None)]
        paths = [path for name in names for path in downloads.glob(f"**/{glob.escape(name)}")]
        return any(resource.is_locally_cached(path) for path in paths)

    return [url for url, info in (builder.url_infos or {}).items() if not is_there(url, info)]


def no_way_to(urls: list[str], seconds: float = SECONDS_TO_CONNECT) -> str:
    """What is wrong with the way to the first of `urls`, or an empty string.

    A download waits minutes for a network that is not there; this, about `seconds`.
    """
    url = urllib.parse.urlsplit(urls[0] if urls else "")
    if not url.hostname:
        return ""  # Nothing to download, as far as the builder says.
    proxy = "" if urllib.request.proxy_bypass(url.hostname) else urllib.request.getproxies().get(url.scheme, "")
    server = urllib.parse.urlsplit(proxy) if proxy else url
    port = server.port or {"https": 443, "ftp": 21}.get(server.scheme, 80)
    problem = [f"{server.hostname} did not answer in {seconds:g} s"]

    def connect() -> None:
        try:
            socket.create_connection((server.hostname, port), seconds).close()
            problem.clear()
        except OSError as error:
            problem[:] = [f"there is no way to {server.hostname}: {error.strerror or error}"]

    # In a thread: looking up the name of a host has no time limit of its own.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(1.2 * seconds)
    return "".join(problem)


def _refuse_foreign_features(path: pathlib.Path) -> None:
    """Raises DataError if the file names a class that is not one of TFDS."""

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, value in pairs:
            named = key in ("pythonClassName", "python_class_name", "type")
            if named and isinstance(value, str) and not value.startswith(_FEATURES_OF_TFDS):
                raise DataError(f"{path}: refused: it names {value}; expected the features of TFDS alone")
        return dict(pairs)

    try:
        json.loads(path.read_bytes(), object_pairs_hook=check)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: damaged: {brief(error)}") from error


def _form(builder: Any, name: Name, image_size: tuple[int, int] | None, color_mode: str | None, fit: str) -> _Form:
    """What the examples hold; DataError unless that is a picture or numbers of one shape, with a class."""
    import tensorflow_datasets as tfds

    keys, features = builder.info.supervised_keys, builder.info.features
    supervised = isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(key, str) for key in keys)
    if not supervised:
        raise DataError(f"{name}: TFDS does not say what is to be told from what; expected an input and a label")
    x, y = (features[key] for key in keys)
    is_class = isinstance(y, tfds.features.ClassLabel)
    if not is_class and not (y.shape == () and np.issubdtype(y.np_dtype, np.integer)):
        raise DataError(f"{name}: the label '{keys[1]}' is a {type(y).__name__}; expected a class")
    is_picture = isinstance(x, tfds.features.Image) and x.np_dtype == np.uint8
    if not is_picture and not (isinstance(x, tfds.features.Tensor) and None not in x.shape and x.shape):
        raise DataError(
            f"{name}: the input '{keys[0]}' is a {type(x).__name__} of shape {x.shape}; expected pictures or numbers"
        )
    given = {"image_size": image_size, "color_mode": color_mode, "fit": None if fit == DataConfig.fit else fit}
    for option, value in given.items():
        if value and not is_picture:
            raise ConfigError(option, flag_value(value), f"is for pictures, and {name} holds rows of numbers")
    mode = MODES[color_mode] if color_mode else None
    reading = AS_STORED._replace(fit=fit)
    return _Form(x.shape, is_picture, image_size, mode, reading, tuple(y.names) if is_class else None)


def _splits_beside(builder: Any, name: Name, split: str) -> set[str]:
    """The splits that hold examples, none of which is in `split`.

    Raises:
      DataError: `split` is no split, or holds no example, or one twice.
    """
    import tensorflow_datasets as tfds

    counts = {key: value.num_examples for key, value in builder.info.splits.items()}
    try:
        parts = tfds.core.splits.AbstractSplit.from_spec(split).to_absolute(builder.info.splits)
        count = builder.info.splits[split].num_examples
    except Exception as error:  # The expression is parsed by TFDS.
        there = ", ".join(sorted(counts))
        raise DataError(f"{name}: no split '{split}'; there are {there}, and parts such as train[:10%]") from error
    if count == 0:
        raise DataError(f"{name}: the split '{split}' holds no examples")
    ranges = sorted((p.splitname, p.from_ or 0, counts[p.splitname] if p.to is None else p.to) for p in parts)
    for (one, _, end), (other, begin, _) in itertools.pairwise(ranges):
        if one == other and begin < end:
            raise DataError(f"{name}: the split '{split}' takes example {begin} of {one} twice; expected no overlap")
    return {key for key, held in counts.items() if held} - {part.splitname for part in parts}


def _read_split(builder: Any, name: Name, split: str, form: _Form, total: int) -> Examples | None:
    """The examples of `split`, of `total` that are read, in the order of its files; None if they have no labels."""
    where = f"{name}:{split}"
    count = builder.info.splits[split].num_examples
    images, labels, filled = None, np.empty(0, np.int64), 0
    try:
        with tqdm.tqdm(desc=f"reading {split}", total=count, unit=" examples", disable=None, leave=False) as bar:
            for x, y in _batches(builder, split, form):
                if images is None:
                    check_fits_memory(str(name), total * x[0].nbytes)
                    images, labels = memory.empty((count, *x.shape[1:]), x.dtype), np.empty(count, np.int64)
                if x.shape[1:] != images.shape[1:]:
                    sizes = f"is {x.shape[1]} x {x.shape[2]}, those before it are {images.shape[1]} x {images.shape[2]}"
                    raise DataError(
                        f"{where}: picture {filled} {sizes}; image_size=HEIGHT,WIDTH brings all to one size"
                    )
                images[filled : filled + len(x)], labels[filled : filled + len(y)] = x, y
                filled += len(x)
                bar.update(len(x))
    except (DataError, MemoryError):
        raise
    except Exception as error:  # TensorFlow reads the files: damage shows in many kinds of errors.
        raise DataError(f"{where}: damaged, near example {filled}: {brief(error)}; see {builder.data_dir}") from error
    assert images is not None  # TFDS sees to it that there are as many as it promises.
    if (labels < 0).all():
        return None
    if (labels < 0).any():
        raise DataError(
            f"{where}: label {labels.min()} of example {labels.argmin()} is out of range; expected 0 or more"
        )
    return Examples(images, labels, where)


def _batches(builder: Any, split: str, form: _Form) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images and labels, many at a time if they stay as they are."""
    import tensorflow_datasets as tfds

    # One file after the other: the order is theirs. Nothing is cached, as nothing is read twice.
    files_in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    dataset = builder.as_dataset(split, as_supervised=True, read_config=files_in_order)
    for x, y in tfds.as_numpy(dataset.batch(_BATCH if form.stays else 1)):
        if form.is_picture and x.shape[-1] == 1:
            x = x[..., 0]
        yield x if form.stays else form.fitted(x[0])[np.newaxis], y


@contextlib.contextmanager
def _without_messages() -> Iterator[None]:
    """Keeps back what TFDS logs about what it does, unless the log is for debugging."""

    def wanted(record: standard_logging.LogRecord) -> bool:
        of_tfds = "tensorflow_datasets" in pathlib.Path(record.pathname).parts
        return not of_tfds or record.levelno >= standard_logging.ERROR

    if logging.get_verbosity() >= logging.DEBUG:
        yield
        return
    logger = logging.get_absl_logger()
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


@contextlib.contextmanager
def _on_stderr() -> Iterator[None]:
    """Keeps TFDS from writing to standard output, which belongs to the result, and from bars where nobody sees them."""
    from tensorflow_datasets.core.utils import tqdm_utils

    bars = not isinstance(tqdm_utils.tqdm(disable=True), tqdm_utils.EmptyTqdm)
    tqdm_utils.display_progress_bar(bars and sys.stderr.isatty())
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        tqdm_utils.display_progress_bar(bars)
