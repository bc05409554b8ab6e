"""From a name or a path to `Splits`: finds the reader for the format, and divides what the data does not divide."""

import pathlib

import numpy as np
from absl import logging

from tfpipe.config import DataConfig, flag_value
from tfpipe.data import scaling
from tfpipe.data.examples import Examples, Splits
from tfpipe.data.readers import arrays, digits, folder, idx, tfds, theano_pickle
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import ConfigError, DataError, enumeration

# More are not what a linear model of images is for, and one damaged label must not take all memory.
_MOST_CLASSES = 1 << 16


def load(
    dataset: str | pathlib.Path = DataConfig.dataset,
    *,
    labels: str | pathlib.Path | None = None,
    data_dir: str | pathlib.Path | None = None,
    download: bool = DataConfig.download,
    validation_split: float | int = DataConfig.validation_split,
    test_split: float | int = DataConfig.test_split,
    pixel_max: float | None = DataConfig.pixel_max,
    image_size: tuple[int, int] | None = DataConfig.image_size,
    color_mode: str | None = DataConfig.color_mode,
    skip_bad_images: bool = DataConfig.skip_bad_images,
    standardize: bool = DataConfig.standardize,
) -> Splits:
    """Loads a data set by name or path.

    Args:
      dataset: `digits`, or the path of a folder with IDX files or with class folders of pictures, of an `.npz`, an
        `.npy`, or a `mnist.pkl.gz`; or `NAME[/CONFIG][:VERSION][:SPLIT]`, a data set of TensorFlow Datasets.
      labels: the path of an `.npy` with labels, for the images of an `.npy`.
      data_dir: where TensorFlow Datasets keeps prepared data; None: `$TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
      download: whether it may download what is not prepared there.
      validation_split: number (int) or fraction (float) of the training examples, taken from their end, that
        validate; used where the data brings no validation split.
      test_split: the same for the test split, taken first.
      pixel_max: images are divided by it on their way to the model; None: what the data is. Floating-point images that
        do not exceed 1 are scaled already, and are left as they are.
      image_size: height and width to which pictures of a folder or of TensorFlow Datasets are brought; None: they have
        one size.
      color_mode: `grayscale` or `rgb`, for the same pictures; None: grayscale unless one has colours.
      skip_bad_images: leave out pictures of a folder that do not decode.
      standardize: scale each column to mean 0 and variance 1 instead, as measured on the training split alone.

    Returns:
      Splits, images as they are stored (uint8 where the source has bytes).

    Raises:
      DataError: the data is missing or damaged; the message names the file and what is wrong.
      ConfigError: an argument is out of range.
    """
    config = DataConfig(
        dataset=str(dataset),
        labels=None if labels is None else str(labels),
        data_dir=None if data_dir is None else str(data_dir),
        download=download,
        validation_split=validation_split,
        test_split=test_split,
        pixel_max=pixel_max,
        image_size=image_size,
        color_mode=color_mode,
        skip_bad_images=skip_bad_images,
        standardize=standardize,
    )
    try:
        return divide(_read(config), config)
    except MemoryError as error:  # Readers let it pass: it is no damage, and nothing that is to be skipped.
        problem = "asks for more memory than is free; it is too large for this machine, or damaged"
        raise DataError(f"{dataset}: {problem}") from error


def _read(config: DataConfig) -> Source:
    """Finds the reader for the format, and sees to it that every option has a meaning for it."""
    dataset, path = config.dataset, pathlib.Path(config.dataset).expanduser()
    try:
        exists = path.exists()
    except OSError as error:  # Such as a name that is too long.
        raise DataError(f"{dataset}: cannot be found: {error.strerror}") from error
    is_npy = path.suffix == ".npy" and path.is_file()
    has_pictures = path.is_dir() and not idx.is_there(path) and folder.holds_class_folders(path)
    name = None if dataset == "digits" or exists else tfds.parse(dataset)
    if config.labels is not None and not is_npy:
        raise ConfigError("labels", config.labels, f"goes with images in an .npy file, and {dataset} is none")
    for option, belongs, what in (
        ("image_size", has_pictures or name, "pictures of a folder or of TensorFlow Datasets"),
        ("color_mode", has_pictures or name, "pictures of a folder or of TensorFlow Datasets"),
        ("skip_bad_images", has_pictures, "folders of pictures"),
        ("data_dir", name, "data sets of TensorFlow Datasets"),
        ("download", name, "data sets of TensorFlow Datasets"),
    ):
        value = getattr(config, option)
        if value != getattr(DataConfig, option) and not belongs:
            raise ConfigError(option, flag_value(value), f"is for {what}, and {dataset} is none")

    if dataset == "digits":
        return digits.read()
    if has_pictures:
        return folder.read(
            path,
            image_size=config.image_size,
            color_mode=config.color_mode,
            skip_bad_images=config.skip_bad_images,
        )
    if path.is_dir():
        return idx.read(path)
    if is_npy:
        if config.labels is None:
            raise ConfigError("labels", "", f"{path} holds images alone; give the .npy file with their labels")
        return arrays.read_npy(path, pathlib.Path(config.labels).expanduser())
    if path.is_file() and path.suffix == ".npz":
        return arrays.read_npz(path)
    if path.is_file() and path.name.endswith((".pkl", ".pkl.gz")):
        return theano_pickle.read(path)
    if name:
        return tfds.read(
            name,
            data_dir=config.data_dir,
            download=config.download,
            image_size=config.image_size,
            color_mode=config.color_mode,
        )
    known = (
        "expected 'digits', a folder with IDX files or class folders, a file .npz, .npy or mnist.pkl.gz, or a name of "
        "TensorFlow Datasets"
    )
    raise DataError(f"{dataset}: {'not a known format' if exists else 'no such data'}; {known}")


def divide(source: Source, config: DataConfig) -> Splits:
    """Takes the splits that `source` lacks from the end of its training examples, and names the classes."""
    total = len(source.train)
    n_classes = len(source.class_names or ()) or int(source.train.labels.max()) + 1
    if n_classes > _MOST_CLASSES:
        raise DataError(
            f"{source.train.name}: label {n_classes - 1} is out of range; expected at most {_MOST_CLASSES - 1}"
        )
    if len(np.unique(source.train.labels)) < 2:
        raise DataError(f"{source.train.name}: every label is {n_classes - 1}; expected at least two classes")

    train = source.train
    parts: dict[str, Examples] = {}
    for name, brought in (("test", source.test), ("validation", source.validation)):
        if brought is not None:
            parts[name] = brought
            continue
        option = f"{name}_split"
        wanted = getattr(config, option)
        count = wanted if isinstance(wanted, int) else round(total * wanted)
        if not 0 < count < len(train):
            have = f"the {len(train)} examples that are left for training"
            raise ConfigError(option, wanted, f"would take {count} of {have}; take at least 1 and leave at least 1")
        parts[name] = train[-count:]
        train = train[:-count]

    class_names = source.class_names or tuple(str(number) for number in range(n_classes))
    _report_missing_classes(source.train, train, class_names)
    return Splits(
        train,
        parts["validation"],
        parts["test"],
        class_names,
        pixel_max=_pixel_max(source, config),
        standardization=scaling.standardization(train.images) if config.standardize else None,
        config=config,
        # Bytes have their own scale, whatever they are divided by: the tutorial takes 256.
        white=source.pixel_max if train.images.dtype == np.uint8 else None,
    )


def _pixel_max(source: Source, config: DataConfig) -> float:
    """What the images are divided by: what the user says, else what the data is."""
    if config.pixel_max is None:
        return source.pixel_max
    if config.pixel_max > 1 and source.train.images.dtype != np.uint8:
        largest = float(source.train.images.max())
        if largest <= 1:
            # Such as the tutorial's flags, made for bytes, on its own file. Scaled twice, a run would look merely bad.
            logging.warning(
                "%s: the largest value is %g, so the images are scaled already; pixel_max=%g is not applied",
                source.train.name,
                largest,
                config.pixel_max,
            )
            return 1.0
    return config.pixel_max


def _report_missing_classes(source: Examples, train: Examples, class_names: tuple[str, ...]) -> None:
    """Says which classes have no example: in the data at all, or in what is left for training."""
    everywhere, left = (np.bincount(e.labels, minlength=len(class_names)) > 0 for e in (source, train))
    if not everywhere.all():
        missing = [class_names[k] for k in np.flatnonzero(~everywhere)]
        logging.info("%s: no example of the classes %s; they are kept", source.name, enumeration(missing))
    if (everywhere & ~left).any():
        missing = [class_names[k] for k in np.flatnonzero(everywhere & ~left)]
        logging.warning(
            "%s: every example of the classes %s went to validation and test; none is left for training",
            source.name,
            enumeration(missing),
        )
