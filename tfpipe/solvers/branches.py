"""Who sums which of the blocks of a pass, and in which arrays: by numbers alone."""

import itertools
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def shares(blocks: int, workers: int) -> list[tuple[int, int]]:
    """`(begin, end)` of the blocks of each worker: as many as of any other, or one more; with many workers of some."""
    bounds = [worker * blocks // workers for worker in range(workers + 1)]
    return list(itertools.pairwise(bounds))


def own(blocks: int, rank: int, size: int) -> tuple[int, int]:
    """Those of process `rank` of `size`: the first is always the chief's, and of more processes some have none."""
    of_all = shares(blocks, min(blocks, size))
    return of_all[rank] if rank < len(of_all) else (0, 0)


def largest_share(blocks: int, workers: int) -> float:
    """The part of all blocks that one of the workers has, at most."""
    return -(-blocks // min(workers, blocks)) / blocks


def branches(begin: int, end: int) -> list[tuple[int, int]]:
    """The fewest branches of the binary tree of all blocks that have those from `begin` to `end`, and no others.

    The sums of a branch are one array, whoever adds them; the chief adds the branches, as in the tree.
    """
    found = []
    while begin < end:
        largest = begin & -begin or 1 << end.bit_length()  # That begins here; any, at 0.
        while begin + largest > end:
            largest //= 2
        found.append((begin, begin + largest))
        begin += largest
    return found


def added(begin: int, end: int, known: Callable[[int, int], T | None], add: Callable[[T, T], T]) -> T | None:
    """What is known of a branch, or else of its halves, added: the same to the bit whoever knows what of it.

    Of B blocks that are found one by one log2(B) + 1 results are held at most.

    Args:
      begin: the first block of the branch.
      end: the one behind its last.
      known: gives what there is for a branch of such bounds; None where it is to be added, or of a block has no rows.
      add: the result of two branches, side by side, of those of each.
    """
    found = known(begin, end)
    if found is not None or end - begin == 1:
        return found
    middle = (begin + end) // 2
    first, second = (added(*half, known, add) for half in ((begin, middle), (middle, end)))
    if first is None or second is None:
        return second if first is None else first
    return add(first, second)
