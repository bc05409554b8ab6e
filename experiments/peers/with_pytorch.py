"""The tutorial's run in PyTorch.

    python with_pytorch.py eager|manual|compile

`eager` has autograd take the gradient; `manual` has it written out, as a NumPy program would; `compile` gives
`torch.compile` eight steps at a time.

What was tried, as seconds against those of the form below. `eager`: nn.Linear, F.cross_entropy and optim.SGD 1.35, the
same with autograd.grad and sub_ 1.16. `manual`: labels as indices 1.15, logits with the classes last 1.35. `compile`,
training alone: one step a call 1.4, without cpp_wrapper 1.1, of float32 images 1.15, 16 or 83 steps a call 0.95 (and 20
and 84 s to compile), the gradient written out 1.4 (one step a call), max-autotune 1.05.
"""

import sys

import torch
import torch.nn.functional as F  # noqa: N812
import tutorial

RATE = tutorial.LEARNING_RATE
STEPS_PER_CALL = 8


def pixels(x: torch.Tensor) -> torch.Tensor:
    return x.float() / 256 if x.dtype == torch.uint8 else x


def cost(W: torch.Tensor, b: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    # Classes first, so that the softmax goes along whole rows of memory: [1, 10, n], since cross_entropy takes classes
    # first where there are more dimensions than two.
    return F.cross_entropy(torch.addmm(b, W, pixels(x).T)[None], y[None])


def eager(W: torch.Tensor, b: torch.Tensor, xs: torch.Tensor, ys: torch.Tensor) -> torch.Tensor:
    """One step on each minibatch `[600, 784]` of `xs`. Returns their costs."""
    costs = []
    for x, y in zip(xs.unbind(), ys.unbind(), strict=True):
        c = cost(W.requires_grad_(), b.requires_grad_(), x, y)
        g_W, g_b = torch.autograd.grad(c, (W, b))
        with torch.no_grad():
            W.sub_(g_W, alpha=RATE)
            b.sub_(g_b, alpha=RATE)
        costs.append(c.detach())
    return torch.stack(costs)


@torch.no_grad()
def manual(W: torch.Tensor, b: torch.Tensor, xs: torch.Tensor, hots: torch.Tensor) -> torch.Tensor:
    """The same, with labels as one-hot columns: `[S, 10, 600]`."""
    costs = []
    for x, hot in zip(xs.unbind(), hots.unbind(), strict=True):
        p = torch.addmm(b, W, x.T).log_softmax(0)
        costs.append(-(p * hot).sum() / len(x))
        p.exp_().sub_(hot)
        W.addmm_(p, x, alpha=-RATE / len(x))
        b.sub_(p.mean(1, keepdim=True), alpha=RATE)
    return torch.stack(costs)


@torch.compile(dynamic=False, options={"cpp_wrapper": True})
def several(W: torch.Tensor, b: torch.Tensor, xs: torch.Tensor, ys: torch.Tensor) -> torch.Tensor:
    costs = []
    for x, y in zip(xs.unbind(), ys.unbind(), strict=True):
        (g_W, g_b), c = torch.func.grad_and_value(cost, argnums=(0, 1))(W, b, x, y)
        W.sub_(g_W, alpha=RATE)
        b.sub_(g_b, alpha=RATE)
        costs.append(c)
    return torch.stack(costs)


@torch.no_grad()
def compiled(W: torch.Tensor, b: torch.Tensor, xs: torch.Tensor, ys: torch.Tensor) -> torch.Tensor:
    whole = len(xs) // STEPS_PER_CALL * STEPS_PER_CALL
    parts = [*zip(xs[:whole].split(STEPS_PER_CALL), ys[:whole].split(STEPS_PER_CALL), strict=True)]
    parts += zip(xs[whole:].split(1), ys[whole:].split(1), strict=True)
    return torch.cat([several(W, b, *part) for part in parts])


@torch.no_grad()
def wrong(W: torch.Tensor, b: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.count_nonzero(F.linear(pixels(x), W, b[:, 0]).argmax(1) != y)


def main(mode: str) -> None:
    step = {"eager": eager, "manual": manual, "compile": compiled}[mode]
    count = torch.compile(wrong) if mode == "compile" else wrong
    # As bytes the images are a quarter of what a step has to fetch, and the division by 256 is exact where it is done.
    # It pays where both are compiled into one loop.
    train_split, validation, test = (
        (torch.from_numpy(x * 256).byte() if mode == "compile" else torch.from_numpy(x), torch.from_numpy(y))
        for x, y in tutorial.load()
    )
    xs, ys = train_split
    if mode == "manual":
        ys = F.one_hot(ys).mT.float().contiguous()
    W, b = torch.zeros(10, 784), torch.zeros(10, 1)

    def train(steps: int) -> float:
        return step(W, b, xs[:steps], ys[:steps]).mean().item()

    def errors(split: tuple[torch.Tensor, torch.Tensor]) -> int:
        return int(sum(count(W, b, x, y) for x, y in zip(*split, strict=True)))

    # Compiled here, with all else that the first call of a function brings; then from the start.
    train(STEPS_PER_CALL + 1)
    errors(validation)
    with torch.no_grad():
        W.zero_(), b.zero_()

    def copied() -> list:
        return [p.detach().clone() for p in (W, b)]

    result = tutorial.run(train, lambda: errors(validation), lambda: errors(test), copied)
    tutorial.report(result, torch=torch.__version__)


if __name__ == "__main__":
    main(sys.argv[1])
