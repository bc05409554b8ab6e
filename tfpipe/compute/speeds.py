"""How fast workers compute, and how fast they exchange arrays: what the model of docs/distributed.md knows of them.

Seconds, bytes, and operations, of which a multiplication and an addition are two.
"""

from typing import NamedTuple


class Machine(NamedTuple):
    """What a worker computes with.

    Attributes:
      product_rate: operations a second of the products in a program of a run; a multiplication and an addition are two.
      row_rate: bytes a second, at which stored rows come to these products.
      step_seconds: what a minibatch takes beside.
      number_seconds: what L-BFGS takes for a weight and evaluation, in NumPy on one core of the chief.
      metric_rate: operations a second of its metric's products in float64, there.
      programs: how many run side by side: one on each core of a CPU, one on a GPU.
    """

    product_rate: float
    row_rate: float
    step_seconds: float
    number_seconds: float
    metric_rate: float
    programs: int = 1


class Network(NamedTuple):
    """How workers exchange arrays.

    Attributes:
      latency: seconds that each exchange takes.
      hop: seconds for each time that it is passed on from one worker to the next, beside.
      bandwidth: bytes a second from one worker to the next.
      start: seconds until all workers know each other.
    """

    latency: float
    hop: float
    bandwidth: float
    start: float


# Measured on an AMD EPYC: an evaluation of MNIST on one core takes 14.6 ms for one head, and 526 for 64; what NumPy
# does of it, 3.2 ms for one and 18.9 for 16.
CORE = Machine(product_rate=190e9, row_rate=7.5e9, step_seconds=20e-6, number_seconds=40e-9, metric_rate=40e9)
# Not measured: half of what NVIDIA tells of the H100 SXM, 67 TFLOP/s in float32 and 3.35 TB/s; and for a minibatch 20
# kernels of 5 microseconds. NumPy stays on a core of the host.
GPU = CORE._replace(product_rate=33e12, row_rate=1.7e12, step_seconds=100e-6)
# Measured between two and four processes on two cores, by loopback: gathered 16 numbers in 0.9 and 2.2 ms (in a run 1.4
# to 2.7), 6.3 MB of each in 14.5 and 44. All of them knew each other after 0.1 to 1.5 s.
PROCESSES = Network(latency=1.5e-3, hop=0.5e-3, bandwidth=0.42e9, start=1.0)
# Of one process: the call of a program takes 0.8 ms, and arrays go to TensorFlow and back at 7 GB/s.
DEVICES = Network(latency=0.8e-3, hop=0.0, bandwidth=7e9, start=0.0)
