"""Searches by several processes, of which none can read the rows of others: the kernel ends who tries."""

import contextlib
import ctypes
import mmap

import numpy as np

from tfpipe import Examples, Splits, TrainConfig, memory
from tfpipe.compute.device import Device
from tfpipe.compute.messages import Message
from tfpipe.compute.workers import Workers
from tfpipe.solvers.branches import own
from tfpipe.solvers.passes import Cut
from tfpipe.training import loop
from tfpipe.training.rows_follower import RowsFollower
from tfpipe.training.search_plan import SearchPlan
from tfpipe.training.search_rows import LAST, SEARCH, fitted

# Of an array so large TensorFlow takes rows where it lies; two fill a page.
TRAIN, VALIDATION, COLUMNS = 2000, 600, 512
DEVICE = Device("/CPU:0", "cpu", programs=2)


class Together:
    """Stands in for a cluster, of whose other processes each is asked in turn: what is said passes as bytes."""

    rank, is_chief = 0, True

    def __init__(self, answers):
        self._answers = answers
        self.size = 1 + len(answers)
        self.asked = []

    def call(self, message):
        self.asked.append(message.name)
        said = Message.unpacked(message.packed())
        answers = [] if message.name == "end" else self._answers
        return lambda: [Message.unpacked(answer(said).packed()) for answer in answers]

    def tell_all(self, message):
        return [message] * self.size

    def heeding(self, _):
        return contextlib.nullcontext()

    def asks_to_stop(self):
        return False

    def fail(self, _):
        pass


class Process:
    """What is known of a process: which of them it is."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size


def splits():
    """Rows of features in an array of their own: first those for training, then those for validation."""
    random = np.random.default_rng(0)
    x = memory.empty((TRAIN + VALIDATION, COLUMNS), np.float32)
    y = np.arange(len(x), dtype=np.int32) % 3
    x[...] = random.normal(size=x.shape)
    x[:, :3] += 2 * np.eye(3)[y]
    x[:, 3] = 1000 + 3 * x[:, 3]
    both, few = Examples(x, y), slice(0, 90)
    parts = both.take(np.arange(TRAIN)), both.take(np.arange(TRAIN, len(x))), Examples(x[few].copy(), y[few])
    found = Splits(*parts, class_names=("0", "1", "2"))
    for of_all in ("fingerprint", "duplicates"):  # They go through all rows of data that is small, once.
        getattr(found, of_all)
    return found


def close(plan, rank, size):
    """From now on the process ends if it reads a row that process `rank` of `size` has no part of: how many are closed.

    All are open that one of the fits of the search gives to it.
    """
    stored = plan.examples.stored
    is_own, n_columns = np.zeros(len(stored), bool), plan.at_once * len(plan.columns) * plan.splits.n_out
    for name in (SEARCH, LAST) if plan.refits and not plan.n_folds else (SEARCH,):
        for wanted in fitted(plan, name).wanted:
            cut = Cut.of(len(wanted.examples), COLUMNS, n_columns)
            is_own[wanted.examples.rows[cut.branch(*own(cut.blocks, rank, size))[1]]] = True
    pages = is_own.reshape(-1, mmap.PAGESIZE // stored[0].nbytes).any(axis=1)
    libc = ctypes.CDLL(None, use_errno=True)
    for page in np.flatnonzero(~pages).tolist():
        address = ctypes.c_void_p(stored.ctypes.data + page * mmap.PAGESIZE)
        assert libc.mprotect(address, mmap.PAGESIZE, 0) == 0  # PROT_NONE
    return int(np.count_nonzero(~pages)) * mmap.PAGESIZE // stored[0].nbytes


def read(begin):
    """The sum of the training rows from `begin` on, of which the second half is that of the second of two processes."""
    own_splits = splits()
    close(SearchPlan.of(TrainConfig(refit=False, folds=0), own_splits, DEVICE, loop.Pace()), 1, 2)
    return float(own_splits.train.images[begin:].sum())


def searches(size, options):
    """What a search by several processes finds, and by one; how many rows each cannot read; what the chief asks."""
    config = TrainConfig(l2=(0.1, 0.01), distribute="rows", **options)
    alone = loop.train(config, splits(), device=DEVICE)
    closed = []
    with contextlib.ExitStack() as stack:
        followers = []
        for rank in range(1, size):
            plan = SearchPlan.of(config, splits(), DEVICE, loop.Pace())
            closed.append(close(plan, rank, size))
            workers = stack.enter_context(Workers(DEVICE))
            followers.append(RowsFollower(plan, workers, Process(rank, size)))
        own_splits = splits()
        closed.insert(0, close(SearchPlan.of(config, own_splits, DEVICE, loop.Pace()), 0, size))
        cluster = Together([follower.answer for follower in followers])
        shared = loop.train(config, own_splits, device=DEVICE, cluster=cluster)
    figures = "l2", "certificate", "evaluations", "validation_cost", "test_error", "calibration", "coefficients"
    found = [(run.model.W.numpy(), [run.report.get(name) for name in figures]) for run in (shared, alone)]
    return found, closed, sorted(set(cluster.asked))
