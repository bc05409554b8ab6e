"""From a name or a path to `Splits`."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from tfpipe.config import OF_FILES, DataConfig, as_scales
from tfpipe.data.addresses import Places
from tfpipe.data.annotations import annotated
from tfpipe.data.checked import WHOLE, Share
from tfpipe.data.examples import Splits
from tfpipe.data.readers import registry
from tfpipe.data.splitting import divide
from tfpipe.exceptions import DataError
from tfpipe.stores.address import is_address
from tfpipe.text import is_one_line


def load(
    dataset: str | pathlib.Path = DataConfig.dataset,
    *,
    labels: str | pathlib.Path | None = None,
    images_key: str | None = None,
    labels_key: str | None = None,
    label_column: str | None = None,
    categorical: str | Sequence[str] = DataConfig.categorical,
    images_dir: str | pathlib.Path | None = None,
    numbered_classes: bool = DataConfig.numbered_classes,
    sample_weight: str | pathlib.Path | None = None,
    groups: str | pathlib.Path | None = None,
    split_file: str | pathlib.Path | None = None,
    data_dir: str | pathlib.Path | None = None,
    download: bool = DataConfig.download,
    validation_split: float | int | None = DataConfig.validation_split,
    test_split: float | int = DataConfig.test_split,
    split_order: str = DataConfig.split_order,
    split_seed: int = DataConfig.split_seed,
    drop_duplicates: bool = DataConfig.drop_duplicates,
    pixel_max: float | None = DataConfig.pixel_max,
    image_size: tuple[int, int] | str | None = DataConfig.image_size,
    fit: str = DataConfig.fit,
    color_mode: str | None = DataConfig.color_mode,
    orientation: str = DataConfig.orientation,
    background: str = DataConfig.background,
    gray_max: int | None = DataConfig.gray_max,
    decoding: str = DataConfig.decoding,
    skip_bad_images: bool = DataConfig.skip_bad_images,
    standardize: bool | str | Sequence[str] | None = DataConfig.standardize,
) -> Splits:
    """Loads a data set by name or path.

    Args:
      dataset: `digits`, or the path of a folder with IDX files, class folders of pictures or `.npy` files; of an
        `.npz`, an HDF5, `.mat` or `.safetensors` file, a `.pt` file of tensors, an `.npy`, a table of numbers or a list
        of pictures in a `.csv` or Parquet file, or a `mnist.pkl.gz`; or `NAME[/CONFIG][:VERSION][:SPLIT]`, a data set
        of TensorFlow Datasets. A file or folder, here and below, may be an address in a store, such as
        `s3://BUCKET/NAME`: see docs/data.md.
      labels: the path of an `.npy` with labels, for the images of an `.npy`.
      images_key: the name of the array with the training images in a file or a folder of several; None: the one that
        is plain by its name or shape.
      labels_key: the same for their labels.
      label_column: the column of a table that has the labels; None: `label`, `class`, `target` or `y`.
      categorical: columns of a table, of text or integers: each becomes columns of 0 and 1, one for each value.
      images_dir: the folder of the pictures that a table names in one of its columns; None: the folder of a CSV file
        that names pictures there.
      numbered_classes: integer labels of arrays, tables and IDX files are the numbers of the classes from 0 on; else
        labels of which the least is not 0 name the classes that there are, and the file may have names for them.
      sample_weight: the path of an `.npy` with a number of at least 0 for each row of the training array, before any
        split is taken from it: what the example counts in the cost. See docs/data.md for the order of the rows.
      groups: the path of an `.npy`, or of a text file of one value a line, with a value for each of the same rows:
        examples of equal values are one group, which is in one split as a whole.
      split_file: the path of such a file, with `train`, `validation` or `test`, or another usual name of these, for
        each of the same rows: the split of each example.
      data_dir: where TensorFlow Datasets keeps prepared data; None: `$TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
      download: whether it may download what is not prepared there.
      validation_split: number (int) or fraction (float) of the training examples that are taken from these to
        validate; used where the data brings no validation split. None: 0.2, and `lbfgs` may take folds.
      test_split: the same for the test split; 0 takes none, for `lbfgs` alone.
      split_order: which ones they are; `stratified`: drawn at random, of each class its share; `end`: the last ones,
        the test split after the other.
      split_seed: determines which ones `stratified` draws.
      drop_duplicates: leave out training examples whose images equal, byte by byte, those of an example before them, or
        of a validation or test split that the data brings; before any split is taken. One of weight 0 makes way for
        one that has weight. Otherwise a warning counts what is in two splits, except in a mapped file beyond 256 MiB;
        no more than a line of the log, where rows of features have categories or more than half repeat others.
      pixel_max: images are divided by it on their way to the model; None: what the data is. Floating-point images that
        do not exceed 1 are scaled already, and are left as they are.
      image_size: height and width to which pictures of a folder or of TensorFlow Datasets are brought; `native`: they
        keep theirs, which must be one; None: so do those of TensorFlow Datasets, and those of a folder if they have one
        of at most 128 x 128; of others the longer side becomes 128 at most, and where their shapes differ both do.
      fit: what becomes of such pictures of another shape. `stretch`: they take that one; `crop`: the largest part of it
        in their middle is taken; `pad`: they keep theirs, in the middle of a ground of the background's colour.
      color_mode: `grayscale` or `rgb`, for the same pictures; None: grayscale unless one has colours.
      orientation: `upright`: pictures of a folder are turned as their EXIF data says; `stored`: they are not.
      background: `white` or `black`, on which transparent pictures of a folder are composited; `none`: transparency is
        dropped.
      gray_max: what is white in gray pictures of a folder with more than 8 bits a pixel; None: the largest of as many
        bits as the largest value in the training pictures has; where none of these has more than 8 bits, others that
        have are refused.
      decoding: `reduced`: JPEG pictures of a folder are decoded at 1/2, 1/4 or 1/8 of their size where at least twice
        the size that they are brought to remains; `full`: they are not.
      skip_bad_images: leave out pictures of a folder that do not decode.
      standardize: the scale of the columns. `columns` or True: each is brought to mean 0 and variance 1 instead, as
        measured on the training split alone; `none` or False: it is not; both in a tuple: for a solver that tries both;
        None: as the solver does by default, see `Splits.scales`.

    Returns:
      Splits, images as they are stored (uint8 where the source has bytes).

    Raises:
      DataError: the data is missing or damaged; the message names the file and what is wrong.
      ConfigError: an argument is out of range.
    """
    config = DataConfig(
        dataset=str(dataset),
        labels=None if labels is None else str(labels),
        images_key=images_key,
        labels_key=labels_key,
        label_column=label_column,
        categorical=tuple([categorical] if isinstance(categorical, str) else categorical),
        images_dir=None if images_dir is None else str(images_dir),
        numbered_classes=numbered_classes,
        sample_weight=None if sample_weight is None else str(sample_weight),
        groups=None if groups is None else str(groups),
        split_file=None if split_file is None else str(split_file),
        data_dir=None if data_dir is None else str(data_dir),
        download=download,
        validation_split=validation_split,
        test_split=test_split,
        split_order=split_order,
        split_seed=split_seed,
        drop_duplicates=drop_duplicates,
        pixel_max=pixel_max,
        image_size=image_size,
        fit=fit,
        color_mode=color_mode,
        orientation=orientation,
        background=background,
        gray_max=gray_max,
        decoding=decoding,
        skip_bad_images=skip_bad_images,
        standardize=as_scales(standardize),
    )
    return loaded(config)


def loaded(
    config: DataConfig, of_model: tuple[str, ...] = (), places: Places | None = None, share: Share = WHOLE
) -> Splits:
    """The data that `config` names, as `load` gives it.

    Args:
      config: which data.
      of_model: the names of the classes of a model that is to be measured on it. Examples of a single class will do
        then, none has to be for training, and what is in two splits is not warned of.
      places: where that lies which `config` names by addresses; None: it is to be fetched.
      share: which of several processes this is, all of which load the data: each looks at other values of a mapped
        file.

    Raises:
      DataError, ConfigError: as `load`.
    """
    places = places or Places(config)
    shown = places.shown(config)
    with places.told():
        try:
            here = places.local(config)
            found = registry.find(here)
            source = places.named(annotated(found.read(here, share), here))
            return divide(source, _with_absolute_paths(shown, isinstance(found.what, pathlib.Path)), of_model)
        except MemoryError as error:  # Readers let it pass: it is no damage, and nothing that is to be skipped.
            problem = "asks for more memory than is free; it is too large for this machine, or damaged"
            raise DataError(f"{shown.dataset}: {problem}") from error


def _with_absolute_paths(config: DataConfig, is_path: bool) -> DataConfig:
    """The same, in words that mean the same from every folder: with absolute paths of what is there.

    Args:
      config: names data that was read.
      is_path: whether `dataset` is a path, and no name.
    """
    absolute: dict[str, Any] = {}
    for option in (*OF_FILES, "data_dir"):
        if option == "dataset" and not is_path:
            continue
        value = getattr(config, option)
        if value is None or is_address(value):
            continue
        path = pathlib.Path(value).expanduser()
        with contextlib.suppress(FileNotFoundError):  # The current folder was removed: what is relative stays so.
            path = path.absolute()
        if path.exists() and is_one_line(str(path)):  # What a flagfile cannot hold stays as it was given.
            absolute[option] = str(path)
    return dataclasses.replace(config, **absolute)
