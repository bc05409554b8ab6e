"""Data in stores: files of the cache stand for addresses, and people are told of the addresses all the same."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfpipe.config import OF_FILES, DataConfig
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import DataError, StoreError, TfpipeError
from tfpipe.log import log
from tfpipe.stores.address import check, check_path, is_address, shown


class Places:
    """Where the data that a configuration names by addresses lies in the cache.

    Nothing of this costs anything where no option is an address.

    Args:
      config: what it names by addresses is fetched, but for what the cache has already.

    Raises:
      DataError: a store has no such object, or does not give it; or the cache cannot hold it.
      ConfigError: an address is one of no store that is known, or an option does not go with data that is no address.
    """

    def __init__(self, config: DataConfig):
        named = {option: getattr(config, option) for option in OF_FILES}
        given = {option: value for option, value in named.items() if value is not None}
        found = {option: value for option, value in given.items() if is_address(value)}
        for option, value in given.items():
            (check if option in found else check_path)(option, value)
        if found and "dataset" not in found:
            from tfpipe.data.readers import registry  # For addresses alone: without them the readers come later.

            registry.find(_replaced(config, {option: shown(value) for option, value in found.items()}))
        self._paths: dict[str, str] = {}
        for option, value in found.items():
            if value not in self._paths:
                self._paths[value] = fetched(option, value)
        self._dataset = self.local(config).dataset
        words = {path: shown(address).rstrip("/") for address, path in self._paths.items()}
        around = {os.path.dirname(path): os.path.dirname(name) for path, name in words.items()}
        self._words = sorted((around | words).items(), key=lambda path_and_name: -len(path_and_name[0]))

    def local(self, config: DataConfig) -> DataConfig:
        """The configuration with paths in the place of addresses."""
        return _replaced(config, {name: self._paths[value] for name, value in self._addresses(config)})

    def shown(self, config: DataConfig) -> DataConfig:
        """The configuration as it may be kept: with addresses that hold no secrets."""
        return _replaced(config, {name: shown(value) for name, value in self._addresses(config)})

    def named(self, source: Source) -> Source:
        """The data under the name of its address."""
        if not self._words:
            return source
        splits = {name: getattr(source, name) for name in ("train", "validation", "test")}
        renamed = {
            name: examples.named(self._in_words(examples.name), self._files(examples.files))
            for name, examples in splits.items()
            if examples is not None
        }
        return source._replace(**renamed, notes=tuple(map(self._in_words, source.notes)))

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Inside, errors and the lines of the log name addresses where they would name files of the cache."""
        if not self._words:
            yield
            return
        log.addFilter(self._tell)
        try:
            yield
        except TfpipeError as error:
            error.args = (self._in_words(str(error)),)
            raise
        finally:
            log.removeFilter(self._tell)

    def _addresses(self, config: DataConfig) -> list[tuple[str, str]]:
        named = [(option, getattr(config, option)) for option in OF_FILES]
        return [(option, value) for option, value in named if value in self._paths]

    def _tell(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._in_words(record.getMessage()), ()
        return True

    def _files(self, files: np.ndarray | None) -> np.ndarray | None:
        """The names of files: of those that a list names, from the place of the list on, if they lie in one store."""
        if files is None:
            return None
        around = os.path.dirname(os.path.abspath(os.path.expanduser(self._dataset)))
        names = [self._file(around, name) if name.startswith("..") else name for name in files]
        return np.array(names, object)

    def _file(self, around: str, name: str) -> str:
        path, start = self._in_words(os.path.normpath(os.path.join(around, name))), self._in_words(around)
        return os.path.relpath(path, start) if _store(path) == _store(start) else path

    def _in_words(self, text: str) -> str:
        for path, name in self._words:
            text = text.replace(path, name)
        return text


def fetched(option: str, address: str) -> str:
    """The path, in the cache, of the file or folder that an address names; `option` holds it, in errors.

    Raises:
      DataError, ConfigError: as `Places`.
    """
    from tfpipe.stores import cache  # What it needs is imported for addresses alone.

    check(option, address)
    try:
        return str(cache.local(address))
    except StoreError as error:
        raise DataError(str(error)) from error


def _store(path: str) -> str:
    """The scheme and the host of an address; empty for a path."""
    return "/".join(path.split("/", 3)[:3]) if is_address(path) else ""


def _replaced(config: DataConfig, values: dict[str, Any]) -> DataConfig:
    return dataclasses.replace(config, **values)
