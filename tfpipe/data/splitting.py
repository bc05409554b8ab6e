"""Which examples go to which split, where the data does not say: numbers of rows, which cost nothing to draw."""

import itertools

import numpy as np

from tfpipe.config import DataConfig
from tfpipe.data import duplicates, scaling
from tfpipe.data.examples import Examples, Splits, SplitsToMeasure, warn_of_white
from tfpipe.data.groups import placed
from tfpipe.data.readers.source import Source
from tfpipe.data.trained_columns import trained, warn_of_other_purposes
from tfpipe.exceptions import ConfigError, DataError, enumeration
from tfpipe.log import log

# More are not what a linear model of images is for, and one damaged label must not take all memory.
_MOST_CLASSES = 1 << 16
_SPLIT = 0.2
_STANDARDIZATION_BYTES = 32 << 20
# No epoch has this number: orders of the training examples, drawn from `(seed, epoch)`, are other draws.
_DRAW_OF_SPLITS = 1 << 32


def divide(source: Source, config: DataConfig, of_model: tuple[str, ...] = ()) -> Splits:
    """Takes the splits that `source` lacks from its training examples, and names the classes.

    Those that it says are used as they are, whether they are arrays of their own or `parts` of the training examples.
    A line tells of examples that are in two splits, which `drop_duplicates` leaves out of the training examples: a
    warning, but where equal rows are how a table is.

    Args:
      source: the data.
      config: how it is divided and scaled.
      of_model: the classes of a model, where examples are to measure one, and none to train one: they may all be of one
        class then, beside which these are named, and none has to be for training.

    Raises:
      DataError: there are no training examples; they are of one class, of too many, or of too few groups; one for
        another split is of a class that none of them has; or `drop_duplicates` leaves none of a class.
      ConfigError: a split would be empty that was not to be, leave nothing to train on, or divide a group.
    """
    named = source.class_names or source.train.class_names
    n_classes = len(named or ()) or int(source.train.labels.max()) + 1
    if n_classes > _MOST_CLASSES:
        raise DataError(
            f"{source.train.name}: label {n_classes - 1} is out of range; expected at most {_MOST_CLASSES - 1}"
        )
    if not of_model:  # Such a model has its columns, and may know the values.
        warn_of_other_purposes(source)
        source = trained(source)
    source = _in_parts(source, named, config, to_train=not of_model)
    if config.drop_duplicates:
        source = duplicates.dropped(source, of_model)
    if not of_model and len(np.unique(source.train.labels)) < 2:
        label = _class_name(int(source.train.labels[0]), named)
        raise DataError(f"{source.train.name}: every label is {label}; expected at least two classes")

    brought = {"test": source.test, "validation": source.validation}
    lacking = [name for name, examples in brought.items() if examples is None]
    wanted = [name for name in lacking if len(source.train) and (name != "test" or config.test_split)]
    sizes = _sizes(len(source.train), wanted, config)
    if not wanted:
        numbers = {"train": np.arange(len(source.train))}
    elif config.split_order == "end":
        numbers = from_the_end(len(source.train), sizes)
        if source.train.groups is not None:
            _check_groups_whole(source.train.groups, numbers, config)
    elif source.train.groups is None:
        numbers = stratified(source.train.labels, sizes, config.split_seed)
    else:
        numbers = _in_whole_groups(source.train, sizes, config.split_seed)
    for name in lacking:
        numbers.setdefault(name, np.arange(0))
    parts = {name: source.train.take(of_split) for name, of_split in numbers.items()}
    parts |= {name: examples for name, examples in brought.items() if examples is not None}

    class_names = named or tuple(str(number) for number in range(n_classes))
    train = parts["train"]
    if len(train):
        _report_missing_classes(source.train, train, class_names, [*reversed(sizes)], config.split_order)
    _report_classes_without_weight(train, class_names)
    if len(class_names) < 2:
        class_names += tuple(name for name in of_model if name not in class_names)
    is_standardized = config.standardize == ("columns",)
    as_float64 = train.blocks(_STANDARDIZATION_BYTES, np.dtype(np.float64).itemsize)
    splits = (SplitsToMeasure if of_model else Splits)(
        train,
        parts["validation"],
        parts["test"],
        class_names,
        pixel_max=_pixel_max(source, config, to_train=not of_model),
        standardization=scaling.standardization(as_float64) if is_standardized and len(train) else None,
        config=config,
        # Bytes have their own scale, whatever they are divided by: the tutorial takes 256.
        white=source.pixel_max if train.stored.dtype == np.uint8 else None,
        reading=source.reading,
        notes=source.notes,
        columns=source.columns,
        brought=tuple(name for name, examples in brought.items() if examples is not None),
    )
    if not of_model:
        duplicates.report(splits, config)
    return splits


def _in_parts(source: Source, class_names: tuple[str, ...] | None, config: DataConfig, *, to_train: bool) -> Source:
    """The data with splits of their own for the parts of its training examples that are said to be for these.

    Raises:
      DataError: of a part no example is left; to train, there is no training example, or one of the others has a class
        that none of these has; or a group is in two parts.
    """
    if source.parts is None:
        return source
    splits = {name: source.train.take(numbers) for name, numbers in source.parts.items()}
    train = splits.setdefault("train", source.train.take(np.arange(0)))
    if to_train and "train" not in source.parts:
        where = config.split_file or train.name
        raise DataError(f"{where}: no row is for training; expected train in one at least")
    for name, examples in splits.items():
        if name in source.parts and not len(examples):
            purpose = "training" if name == "train" else name
            raise DataError(f"{train.name}: no example for {purpose} is left; expected one at least")
        unknown = ~np.isin(examples.labels, train.labels)
        if to_train and unknown.any():
            label = _class_name(int(examples.labels[np.argmax(unknown)]), class_names)
            problem = f"an example for {name} is of the class {label}, which no training example has"
            raise DataError(f"{train.name}: {problem}; expected all classes in training")
    _check_groups_apart(source)
    others = {"validation": source.validation, "test": source.test} | splits
    return source._replace(train=train, validation=others["validation"], test=others["test"])


def _class_name(number: int, class_names: tuple[str, ...] | None) -> str:
    return class_names[number] if class_names else str(number)


def _check_groups_apart(source: Source) -> None:
    """Raises DataError if a group is in two of the parts: by the numbers of the rows, as people list them."""
    train, listing = source.train, source.listing
    if train.groups is None or source.parts is None:
        return
    for (first, one), (second, other) in itertools.combinations(source.parts.items(), 2):
        both = np.isin(train.groups[other], train.groups[one])
        if both.any():
            example = other[np.argmax(both)]
            pair = (example, one[np.argmax(train.groups[one] == train.groups[example])])
            rows = pair if listing is None else [np.argmax(listing == number) for number in pair]
            problem = f"row {rows[0]}, for {second}, is of one group with row {rows[1]}, for {first} (counted from 0)"
            raise DataError(f"{train.name}: {problem}; expected each group in one split")


def from_the_end(total: int, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Numbers of the examples of each split, `[n]` int64, ascending.

    Args:
      total: how many examples there are.
      sizes: of the splits to take, the last one of the data first; together below `total`.

    Returns:
      Those of `sizes`, and of `train`: what is left, from the first example on.
    """
    numbers = {}
    for name, size in sizes.items():
        numbers[name] = np.arange(total - size, total)
        total -= size
    return numbers | {"train": np.arange(total)}


def stratified(labels: np.ndarray, sizes: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """Numbers of the examples of each split, `[n]` int64, ascending: drawn at random, of each class its share.

    From a class with N_k of the N examples a split of n takes n N_k / N, rounded down or up: up where most is cut off
    (largest remainders), so that it has exactly n. What was cut off in the split before counts too: then the rest, for
    training, has the shares as well. If as many are left for training as there are classes, each keeps one at least;
    what a class cannot give for that reason comes from the others, by their shares.

    The draw is a pure function of the arguments, by NumPy's Philox generator.

    Args:
      labels: `[N]` integers, at least 0.
      sizes: of the splits to take, together below N.
      seed: in [0, 2**63).

    Returns:
      Those of `sizes`, and of `train`: what is left.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, _DRAW_OF_SPLITS]))
    of_class = np.bincount(labels)
    counts = _of_each_class(of_class, sizes, generator.permutation(len(of_class)))
    counts["train"] = of_class - sum(counts.values())
    drawn = generator.permutation(len(labels))
    drawn = drawn[np.argsort(labels[drawn], kind="stable")]  # Class by class, and in each as they were drawn.
    place = np.arange(len(labels)) - np.repeat(np.cumsum(of_class) - of_class, of_class)
    numbers, begin = {}, np.zeros_like(of_class)
    for name, count in counts.items():
        end = begin + count
        chosen = (place >= np.repeat(begin, of_class)) & (place < np.repeat(end, of_class))
        numbers[name], begin = np.sort(drawn[chosen]), end
    return numbers


def in_whole_groups(labels: np.ndarray, groups: np.ndarray, sizes: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """Numbers of the examples of each split, `[n]` int64, ascending: groups drawn at random, none of them divided.

    Sizes and shares of the classes come as near to those of `stratified` as `groups.placed` brings them. The splits are
    taken one after the other: the first is the same whatever the sizes of the others are.

    A pure function of the arguments, by NumPy's Philox generator.

    Args:
      labels: `[N]` integers, at least 0.
      groups: `[N]` integers, equal ones are one group; there are more groups than `sizes`.
      sizes: of the splits to take, together below N.
      seed: in [0, 2**63).

    Returns:
      Those of `sizes`, and of `train`: what is left.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, _DRAW_OF_SPLITS]))
    numbers, left = {}, np.arange(len(labels))
    for place, (name, size) in enumerate(sizes.items()):
        wanted = min(size, len(left) - 1)  # The split before may have taken more than it was to have.
        least = [len(sizes) - place, 1]
        part = placed(labels[left], groups[left], [len(left) - wanted, wanted], least, generator)
        numbers[name], left = left[part == 1], left[part == 0]
    return numbers | {"train": left}


def _in_whole_groups(train: Examples, sizes: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    assert train.groups is not None
    n_groups = len(np.unique(train.groups))
    if n_groups <= len(sizes):
        splits = " and ".join(["training", *sizes])
        raise DataError(f"{train.name}: {n_groups} groups for {splits}; expected at least one for each")
    numbers = in_whole_groups(train.labels, train.groups, sizes, seed)
    for name, size in sizes.items():
        if len(numbers[name]) != size:
            log.info("%s: %s takes %d examples, not %d: groups stay whole", train.name, name, len(numbers[name]), size)
    return numbers


def _check_groups_whole(groups: np.ndarray, numbers: dict[str, np.ndarray], config: DataConfig) -> None:
    """Raises ConfigError if a split that is taken from the end begins within a group."""
    _, of_example = np.unique(groups, return_inverse=True)
    last = np.zeros(of_example.max() + 1, np.int64)
    last[of_example] = np.arange(len(groups))  # Of each group its last example: the assignments are made in order.
    apart = 1 + np.flatnonzero(np.maximum.accumulate(last[of_example]) == np.arange(len(groups)))[:-1]
    for name, of_split in numbers.items():
        begin, end = int(of_split[0]), int(of_split[-1]) + 1
        if begin == 0 or begin in apart:
            continue
        sizes = end - apart[apart < end][::-1]
        near = [*sizes[sizes < end - begin][-1:].tolist(), *sizes[sizes > end - begin][:1].tolist()]
        remedy = f"; take {' or '.join(map(str, near))} examples" * bool(near)
        problem = f"would begin at example {begin}, within a group{remedy}; split_order=stratified keeps groups whole"
        option = f"{name}_split"
        raise ConfigError(option, getattr(config, option), problem)


def _of_each_class(of_class: np.ndarray, sizes: dict[str, int], ties: np.ndarray) -> dict[str, np.ndarray]:
    """How many examples of each class, `[K]` int64, each split takes.

    Args:
      of_class: `[K]`, how many there are.
      sizes: of the splits.
      ties: `[K]`; of classes of which as much is cut off, that with the smaller number comes first.
    """
    one = (of_class > 0) & (of_class.sum() - sum(sizes.values()) >= np.count_nonzero(of_class))
    room = of_class - one
    cut_off = np.zeros(len(of_class))
    counts = {}
    for name, size in sizes.items():
        full = np.zeros(len(of_class), bool)  # The classes that cannot give their share.
        over = ~full
        while over.any():
            rest, of_others = size - room[full].sum(), of_class[~full].sum()
            over = ~full & (rest * of_class > room * of_others)
            full |= over
        count, remainder = np.divmod(rest * of_class, of_others)
        count[full], remainder[full] = room[full], 0
        cut_off += remainder / of_others
        first = np.lexsort((ties, -cut_off))
        up = first[(count < room)[first]][: size - count.sum()]
        count[up] += 1
        cut_off[up] -= 1
        room -= count
        counts[name] = count
    return counts


def _sizes(total: int, names: list[str], config: DataConfig) -> dict[str, int]:
    """How many of `total` examples each of the splits `names` takes, as the configuration says."""
    sizes: dict[str, int] = {}
    left = total
    for name in names:
        option = f"{name}_split"
        wanted = _SPLIT if (given := getattr(config, option)) is None else given
        size = wanted if isinstance(wanted, int) else round(total * wanted)
        if not 0 < size < left:
            have = f"the {left} examples that are left for training"
            raise ConfigError(option, wanted, f"would take {size} of {have}; take at least 1 and leave at least 1")
        sizes[name] = size
        left -= size
    return sizes


def _pixel_max(source: Source, config: DataConfig, *, to_train: bool) -> float:
    """What the images are divided by: what the user says, else what the data is."""
    if config.pixel_max is None:
        if to_train and source.pixel_max == 1:
            warn_of_white(source.train)
        return source.pixel_max
    if config.pixel_max > 1 and len(source.train) and source.train.stored.dtype != np.uint8:
        _, largest = source.train.value_range()
        if largest <= 1:
            # Such as the tutorial's flags, made for bytes, on its own file. Scaled twice, a run would look merely bad.
            log.warning(
                "%s: the largest value is %g, so the images are scaled already; pixel_max=%g is not applied",
                source.train.name,
                largest,
                config.pixel_max,
            )
            return 1.0
    return config.pixel_max


def _report_missing_classes(
    source: Examples, train: Examples, class_names: tuple[str, ...], taken: list[str], order: str
) -> None:
    """Says which classes have no example: in the data at all, or in what is left for training.

    Args:
      source: the training examples before splits are taken.
      train: and after it.
      class_names: by number.
      taken: the names of these splits.
      order: by which they are taken.
    """
    everywhere, left = (np.bincount(e.labels, minlength=len(class_names)) > 0 for e in (source, train))
    if not everywhere.all():
        missing = [class_names[k] for k in np.flatnonzero(~everywhere)]
        log.info("%s: no example of the classes %s; they are kept", source.name, enumeration(missing))
    remedy = "; split_order=stratified gives each split its share of every class" if order == "end" else ""
    if (everywhere & ~left).any():
        missing = [class_names[k] for k in np.flatnonzero(everywhere & ~left)]
        log.warning(
            "%s: every example of the classes %s went to %s; none is left for training%s",
            source.name,
            enumeration(missing),
            " and ".join(taken),
            remedy,
        )
    elif order == "end" and len(train) < len(source) and _is_sorted_by_class(source.labels):
        log.warning(
            "%s: is sorted by class, so what is taken from its end holds other classes than the training examples%s",
            source.name,
            remedy,
        )


def _report_classes_without_weight(train: Examples, class_names: tuple[str, ...]) -> None:
    if train.weights is None:
        return
    there = np.bincount(train.labels, minlength=len(class_names)) > 0
    without = there & (np.bincount(train.labels, train.weights, minlength=len(class_names)) == 0)
    if without.any():
        missing = enumeration([class_names[k] for k in np.flatnonzero(without)])
        log.warning("%s: every training example of the classes %s has weight 0", train.name, missing)


def _is_sorted_by_class(labels: np.ndarray) -> bool:
    """Whether the examples of each class lie side by side."""
    return int(np.count_nonzero(np.diff(labels))) == len(np.unique(labels)) - 1
