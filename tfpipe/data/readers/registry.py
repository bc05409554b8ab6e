"""The formats in which data comes: a new one is a file beside this, and an entry here."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from tfpipe.config import DataConfig, flag_value
from tfpipe.data import picture_files
from tfpipe.data.checked import WHOLE, Share
from tfpipe.data.readers import (
    arrays,
    digits,
    folder,
    hdf5,
    idx,
    matlab,
    picture_list,
    safe_tensors,
    shards,
    table,
    tfds,
    theano_pickle,
    torch_file,
)
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import ConfigError, DataError


class Format(NamedTuple):
    """A format.

    Attributes:
      recognise: takes what the user calls the data, and the path that this would be. Returns what `read` takes: the
        path, or whatever a name stands for; None if the data has another format.
      read: reads it. Takes the options that belong to the format by their names, and gives a Source.
      options: fields of DataConfig that mean something to it and not to every other format.
      maps: whether it maps files; `read` takes a `share` of their values then.
    """

    recognise: Callable[[str, pathlib.Path], Any]
    read: Callable[..., Source]
    options: tuple[str, ...] = ()
    maps: bool = False


_OF_PICTURES = (
    "image_size", "fit", "color_mode", "orientation", "background", "gray_max", "decoding", "skip_bad_images",
)  # fmt: skip
_OF_LISTS = ("images_dir", "label_column", "numbered_classes", *_OF_PICTURES)
# Of files of named arrays.
_NAMED = ("images_key", "labels_key", "numbered_classes")
# The first that recognises the data reads it.
FORMATS = (
    Format(digits.recognise, digits.read),
    Format(shards.recognise, shards.read, _NAMED, maps=True),
    Format(folder.recognise, folder.read, _OF_PICTURES),
    Format(idx.recognise, idx.read, ("numbered_classes",)),
    Format(arrays.recognise_npy, arrays.read_npy, ("labels", "numbered_classes"), maps=True),
    Format(hdf5.recognise, hdf5.read, _NAMED),  # By its content, whatever its name is.
    Format(arrays.recognise_npz, arrays.read_npz, _NAMED),
    Format(matlab.recognise, matlab.read, _NAMED),
    Format(safe_tensors.recognise, safe_tensors.read, _NAMED),
    Format(torch_file.recognise, torch_file.read, _NAMED),
    Format(theano_pickle.recognise, theano_pickle.read),
    Format(picture_list.recognise, picture_list.read, _OF_LISTS),
    Format(table.recognise, table.read, ("label_column", "numbered_classes", "categorical")),
    Format(tfds.recognise, tfds.read, ("image_size", "fit", "color_mode", "data_dir", "download")),
)
# With a folder of pictures every table is a list of these.
_WITH_IMAGES_DIR = Format(table.recognise, picture_list.read, _OF_LISTS)
# What these options are for, said to those who give one to other data.
_PURPOSES = {
    "labels": "goes with images in an .npy file",
    "images_key": "is for files of named arrays, such as .npz or HDF5",
    "labels_key": "is for files of named arrays, such as .npz or HDF5",
    "label_column": "is for tables, a .csv or Parquet file",
    "categorical": "is for tables of features, a .csv or Parquet file",
    "images_dir": "goes with a .csv or Parquet file that lists pictures",
    "numbered_classes": "is for labels in arrays, tables and IDX files",
    "image_size": "is for pictures of a folder, of a list or of TensorFlow Datasets",
    "fit": "is for pictures of a folder, of a list or of TensorFlow Datasets",
    "color_mode": "is for pictures of a folder, of a list or of TensorFlow Datasets",
    "orientation": "is for folders of pictures and lists of them",
    "background": "is for folders of pictures and lists of them",
    "gray_max": "is for folders of pictures and lists of them",
    "decoding": "is for folders of pictures and lists of them",
    "skip_bad_images": "is for folders of pictures and lists of them",
    "data_dir": "is for data sets of TensorFlow Datasets",
    "download": "is for data sets of TensorFlow Datasets",
}
_KNOWN = (
    "expected 'digits', a folder with IDX files, class folders or .npy files, a file .npz, .npy, .h5, .mat, "
    ".safetensors, .pt, .csv, .parquet or mnist.pkl.gz, or a name of TensorFlow Datasets"
)


class Found(NamedTuple):
    """Data whose format is known.

    Attributes:
      format: its format.
      what: what the format's `read` takes.
    """

    format: Format
    what: Any

    def read(self, config: DataConfig, share: Share = WHOLE) -> Source:
        """The data; of the values of mapped files this process looks at its share."""
        options = {option: getattr(config, option) for option in self.format.options}
        return self.format.read(self.what, **options, **({"share": share} if self.format.maps else {}))


def find(config: DataConfig) -> Found:
    """The format of the data that `config` names.

    Raises:
      DataError: there is no such data, or its format is unknown.
      ConfigError: an option has no meaning for the format.
    """
    dataset = config.dataset
    try:
        path = pathlib.Path(dataset).expanduser()
        exists = path.exists()
        formats = FORMATS if config.images_dir is None else (_WITH_IMAGES_DIR, *FORMATS)
        found = next((Found(f, what) for f in formats if (what := f.recognise(dataset, path)) is not None), None)
    except (OSError, RuntimeError) as error:  # Such as a name that is too long, or `~` of somebody who is not there.
        raise DataError(f"{dataset}: cannot be found: {getattr(error, 'strerror', None) or error}") from error
    for option, purpose in _PURPOSES.items():
        value = getattr(config, option)
        if value != getattr(DataConfig, option) and not (found and option in found.format.options):
            raise ConfigError(option, flag_value(value), f"{purpose}, and {dataset} is none")
    if found is None:
        raise DataError(f"{dataset}: {_what_is_there(path) if exists else f'no such data; {_KNOWN}'}")
    return found


def _what_is_there(path: pathlib.Path) -> str:
    """What a path holds that is of no known format, and what would be right."""
    if not path.is_dir():
        return f"not a known format; {_KNOWN}"
    found = picture_files.below(str(path), deep=False)
    if found.pictures:
        count = "1 picture" if len(found.pictures) == 1 else f"{len(found.pictures)} pictures"
        names = picture_files.names(str(path), found.pictures)
        return f"holds {count} and no folders of classes ({names}); expected a folder for each class, CLASS/PICTURE"
    if found.skipped:
        return f"a folder of no known format, with {picture_files.names(str(path), found.skipped)}; {_KNOWN}"
    return f"an empty folder; {_KNOWN}"
