"""Addresses and ranks from the variables of srun, worked out by hand."""

from absl.testing import absltest, parameterized

from tfpipe.compute import slurm
from tfpipe.exceptions import ClusterError

# A task of `srun --nodes=2 --ntasks-per-node=1`: the ports are 10000 + (16 * (1000 + 89 * 0) mod 22768) = 26000.
VARIABLES = {
    "SLURM_JOB_ID": "1000",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "n[9-10]",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_PROCID": "1",
}


def step(**changes):
    variables = VARIABLES | {f"SLURM_{name.upper()}": value for name, value in changes.items()}
    return slurm.step({name: value for name, value in variables.items() if value is not None})


def of_nodes(text, count):
    """The names of the nodes of a step with one task on each."""
    found = step(step_nodelist=text, step_tasks_per_node=f"1(x{count})", step_num_tasks=str(count), **RANK_0)
    return [address.partition(":")[0] for address in found.addresses]


RANK_0 = {"nodeid": "0", "localid": "0", "procid": "0"}


class StepTest(parameterized.TestCase):
    def test_nodes_are_in_the_order_of_ranks(self):
        self.assertEqual(step(), slurm.Step(["n9:26000", "n10:26000"], 1))

    @parameterized.parameters(
        ("n9,n10", ["n9", "n10"]),
        ("n10,n9", ["n10", "n9"]),
        ("n[1-3,10],gpu07", ["n1", "n2", "n3", "n10", "gpu07"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("n[098-101]", ["n098", "n099", "n100", "n101"]),
        ("rack[0-1]-n[1-2].site", ["rack0-n1.site", "rack0-n2.site", "rack1-n1.site", "rack1-n2.site"]),
        ("25a-hgpn026", ["25a-hgpn026"]),
        ("gpu[5]", ["gpu5"]),
    )
    def test_lists_of_nodes(self, text, expected):
        self.assertEqual(of_nodes(text, len(expected)), expected)

    @parameterized.parameters(None, "block", "block:cyclic", "block,NoPack", "*")
    def test_several_tasks_on_a_node_by_block(self, distribution):
        tasks = {"step_nodelist": "n[9-11]", "step_tasks_per_node": "2,1(x2)", "step_num_tasks": "4"}
        found = step(**tasks, distribution=distribution, procid="1", nodeid="0", localid="1")
        self.assertEqual(found, slurm.Step(["n9:26000", "n9:26001", "n10:26000", "n11:26000"], 1))

    @parameterized.parameters("cyclic", "cyclic:block", "cyclic,pack")
    def test_several_tasks_on_a_node_by_cyclic(self, distribution):
        tasks = {"step_nodelist": "n[9-11]", "step_tasks_per_node": "2,1,3", "step_num_tasks": "6"}
        found = step(**tasks, distribution=distribution, procid="4", nodeid="2", localid="1")
        expected = ["n9:26000", "n10:26000", "n11:26000", "n9:26001", "n11:26001", "n11:26002"]
        self.assertEqual(found, slurm.Step(expected, 4))

    @parameterized.parameters(
        ("0", "0", 10_000),
        ("1", "0", 10_016),
        ("1422", "0", 32_752),
        ("1423", "0", 10_000),
        ("0", "1", 10_000 + 16 * 89),
        ("8652137", "3", 10_000 + (16 * (8_652_137 + 267)) % 22_768),
        ("1", "4294967290", 10_000 + (16 * (1 + 89 * 4_294_967_290)) % 22_768),
    )
    def test_ports_follow_from_job_and_step(self, job, number, port):
        self.assertEqual(step(job_id=job, step_id=number).addresses, [f"n9:{port}", f"n10:{port}"])

    def test_jobs_near_each_other_share_no_port(self):
        tasks = {"step_nodelist": "n1", "step_tasks_per_node": "16", "step_num_tasks": "16"}
        ports = [
            address.partition(":")[2]
            for job in range(5_000_000, 5_001_423)
            for address in step(**tasks, job_id=str(job), **RANK_0).addresses
        ]
        self.assertLen(set(ports), 1423 * 16)
        self.assertBetween(min(map(int, ports)), 10_000, 32_767)
        self.assertBetween(max(map(int, ports)), 10_000, 32_767)

    def test_more_tasks_than_ports_of_a_job_come_after_each_other(self):
        tasks = {"step_nodelist": "n1", "step_tasks_per_node": "20", "step_num_tasks": "20"}
        found = step(**tasks, job_id="1422", **RANK_0)
        self.assertEqual(found.addresses[15:17], ["n1:32767", "n1:10000"])

    @parameterized.parameters(*VARIABLES)
    def test_one_that_is_missing(self, name):
        with self.assertRaisesRegex(ClusterError, f"^{name} is not set; srun sets it"):
            step(**{name.removeprefix("SLURM_"): None})

    @parameterized.parameters(
        ("step_nodelist", "n[9-", "expected names of nodes, such as"),
        ("step_nodelist", "", "expected names of nodes, such as"),
        ("step_nodelist", "n9,,n10", "expected names of nodes, such as"),
        ("step_nodelist", "n9;n10", "expected names of nodes, such as"),
        ("step_nodelist", "n[a-b]", "expected names of nodes, such as"),
        ("step_nodelist", "n[0-9999999999]", "expected names of nodes, such as"),
        ("step_nodelist", "n[10-9]", "has a range that goes down"),
        ("step_nodelist", "n[9,9]", "names a node twice"),
        ("step_tasks_per_node", "1(y2)", r"expected how many tasks each node has, such as 2\(x3\),1"),
        ("step_tasks_per_node", "0,2", r"expected how many tasks each node has, such as 2\(x3\),1"),
        ("step_tasks_per_node", "1(x3)", "of 3 nodes, but there are 2"),
        ("step_tasks_per_node", "999999999(x2)", "more than 65536 tasks"),
        ("step_tasks_per_node", "1(x999999999)", "more than 65536 tasks|of 65536 nodes"),
        ("step_num_tasks", "3", "but SLURM_STEP_TASKS_PER_NODE adds up to 2"),
        ("step_num_tasks", "two", "expected an integer of at least 0"),
        ("procid", "2", "expected less than the number of tasks, 2"),
        ("procid", "-1", "expected an integer of at least 0"),
        ("procid", "٣", "expected an integer of at least 0"),
        ("procid", "0", "SLURM_NODEID=1: expected 0 of the task with rank 0; srun --distribution=block is"),
        ("localid", "1", "expected 0 of the task with rank 1; srun --distribution=block is understood"),
        ("job_id", "1" * 5000, "expected an integer of at least 0"),
        ("distribution", "plane=2", "ranks cannot be told; srun --distribution=block is understood"),
        ("distribution", "arbitrary", "ranks cannot be told; srun --distribution=block is understood"),
    )
    def test_one_that_is_damaged(self, name, value, words):
        with self.assertRaisesRegex(ClusterError, words) as context:
            step(**{name: value})
        self.assertRegex(str(context.exception), r"^SLURM_[A-Z_]+=.*: ")
        self.assertLen(str(context.exception).splitlines(), 1)


if __name__ == "__main__":
    absltest.main()
