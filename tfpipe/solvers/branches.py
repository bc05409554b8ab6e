"""Who sums which of the blocks of a pass, and in which arrays: by numbers alone."""

import itertools


def shares(blocks: int, workers: int) -> list[tuple[int, int]]:
    """`(begin, end)` of the blocks of each worker: as many as of any other, or one more; with many workers of some."""
    bounds = [worker * blocks // workers for worker in range(workers + 1)]
    return list(itertools.pairwise(bounds))


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
