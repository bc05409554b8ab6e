"""Which processes share a run, as the environment variable TF_CONFIG names them: read, and nothing else.

Form: https://www.tensorflow.org/guide/distributed_training#tf_config_environment_variable. Without TensorFlow, so that
what is wrong with it is found before that is imported.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from tfpipe.exceptions import ClusterError, ConfigError

NAME = "TF_CONFIG"
_AN_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}} would be right'
)
_JOBS = ("chief", "worker")


class Task(NamedTuple):
    """A process among those that share a run.

    Attributes:
      addresses: of all of them, `host:port`, the chief's first.
      rank: which of them it is, from 0; the chief is 0.
      job: its job in TF_CONFIG.
      number: which of that job it is, from 0.
    """

    addresses: tuple[str, ...]
    rank: int
    job: str
    number: int

    def rank_of(self, job: str, index: int) -> int:
        """The rank of a task."""
        own_job_begins = self.rank - self.number
        if job == self.job:
            return own_job_begins + index
        return 0 if job == "chief" else index + 1

    def port(self, rank: int) -> tuple[str, int]:
        """Host and port of one of them."""
        host, _, port = self.addresses[rank].rpartition(":")
        return host.strip("[]"), int(port)  # An IPv6 address stands in brackets.

    def name(self, rank: int) -> str:
        """What messages call one of them."""
        return f"worker {rank} ({self.addresses[rank]})"


def task(environ: Mapping[str, str]) -> Task | None:
    """The task that TF_CONFIG gives this process; None if there is none, or no other process.

    Raises:
      ClusterError: it is damaged.
    """
    text = environ.get(NAME, "").strip()
    if not text:
        return None
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _error(f"is no JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("cluster", {}), dict):
        raise _error("names no cluster")
    jobs: dict[str, Any] = content.get("cluster", {})
    if not jobs:
        return None
    if others := jobs.keys() - set(_JOBS):
        raise _error(f"has the job {min(others)}, and tfpipe knows chief and worker alone")
    addresses = [address for job in _JOBS for address in _addresses(job, jobs.get(job, []))]
    if len(set(addresses)) < len(addresses):
        raise _error("names an address twice")
    own = content.get("task")
    if not isinstance(own, dict) or own.get("type") not in jobs:
        raise _error(f"has no task whose type is one of its jobs, {', '.join(jobs)}")
    job, index = own["type"], own.get("index")
    # As a text it is what shells and manifests often write.
    if isinstance(index, str) and index.isdecimal():
        index = int(index)
    if type(index) is not int or not 0 <= index < len(jobs[job]):
        raise _error(f"has a task whose index is not one of the {len(jobs[job])} of {job}, from 0")
    if len(jobs.get("chief", [])) > 1:
        raise _error("has more than one chief")
    rank = index + (len(jobs.get("chief", [])) if job == "worker" else 0)
    return Task(tuple(addresses), rank, job, index) if len(addresses) > 1 else None


def wanted(strategy: str, environ: Mapping[str, str]) -> Task | None:
    """The task of this process, by `strategy` as in TrainConfig; None: it does its work alone.

    Raises:
      ClusterError: TF_CONFIG is damaged.
      ConfigError: others are wanted, and TF_CONFIG names none.
    """
    if strategy in ("none", "devices"):
        return None
    found = task(environ)
    if found is None and strategy == "multi_worker":
        raise ConfigError("strategy", strategy, f"wants {NAME} in the environment, which tfpipe launch sets")
    return found


def _addresses(job: str, addresses: Any) -> list[str]:
    if not isinstance(addresses, list) or not all(isinstance(address, str) for address in addresses):
        raise _error(f"has no list of addresses for {job}")
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise _error(f"has {address!r} for {job}, which is no host:port")
    return addresses


def _error(problem: str) -> ClusterError:
    return ClusterError(f"{NAME} {problem}; {_AN_EXAMPLE}")
