"""The files for clusters: what must agree in them does, and their shells build the TF_CONFIG that is meant."""

import json
import os
import pathlib
import shutil
import subprocess

import yaml
from absl.testing import absltest, parameterized

CLUSTER = pathlib.Path(__file__).parent.parent / "experiments" / "cluster"
# In the place of commands that are not there.
SAYS_TF_CONFIG = '#!/bin/sh\nprintf "%s\\n" "$TF_CONFIG"; printf "%s\\n" "$*"\n'
SAYS_ARGUMENTS = '#!/bin/sh\nprintf "%s\\n" "$@"\n'
RUNS_THERE = '#!/bin/sh\n[ "$1" = -tt ] && echo "$2" && exec /bin/sh -c "$3"\n'


class ClusterFilesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.commands = pathlib.Path(self.create_tempdir().full_path)

    def run_shell(self, shell, *arguments, commands, **environment):
        """What a shell writes, in lines, where these commands are on its path before all others."""
        for name, program in commands.items():
            path = self.commands / name
            path.write_text(program)
            path.chmod(0o755)
        path = f"{self.commands}:{os.environ['PATH']}"
        environment = {"PATH": path, **environment}
        process = subprocess.run(
            [*shell, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=60
        )
        return process.stdout.splitlines()


class KubernetesTest(ClusterFilesTest):
    def read(self, name):
        """The objects of a manifest, by their kinds; no two are of one kind."""
        objects = list(yaml.safe_load_all((CLUSTER / name).read_text("utf-8")))
        by_kind = {one["kind"]: one for one in objects}
        self.assertLen(by_kind, len(objects))
        return by_kind

    def assert_is_a_cluster(self, job, names):
        """The pods of a Job's specification are workers of one run, at these names."""
        self.assertEqual(job["completionMode"], "Indexed")
        self.assertEqual(job["completions"], job["parallelism"])
        self.assertEqual(job["backoffLimit"], 0)
        pod = job["template"]["spec"]
        self.assertEqual(pod["restartPolicy"], "Never")
        self.assertFalse(pod["automountServiceAccountToken"])
        (container,) = pod["containers"]
        environment = {one["name"]: one["value"] for one in container["env"]}
        self.assertEqual(environment, {"WORKERS": str(job["completions"])})
        port = container["ports"][0]["containerPort"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        self.assertEqual({mount["name"] for mount in container["volumeMounts"]}, set(volumes))
        self.assertLen(names, job["completions"])
        for index in range(job["completions"]):
            config, arguments = self.run_shell(
                container["command"], *container["args"], commands={"tfpipe": SAYS_TF_CONFIG},
                JOB_COMPLETION_INDEX=str(index), **environment,
            )  # fmt: skip
            expected = {
                "cluster": {"worker": [f"{name}:{port}" for name in names]},
                "task": {"type": "worker", "index": index},
            }
            self.assertEqual(json.loads(config), expected)
            command, *flags = arguments.split()
            self.assertEqual(command, "train")
            for flag in flags:
                if flag.startswith(("--dataset=", "--labels=", "--workdir=")):
                    folders = [f"{mount['mountPath']}/" for mount in container["volumeMounts"]]
                    self.assertStartsWith(flag.partition("=")[2], tuple(folders))

    def assert_only_the_pods_themselves_reach_them(self, policy, labels):
        spec = policy["spec"]
        self.assertEqual(spec["policyTypes"], ["Ingress"])
        self.assertEqual(spec["podSelector"], {"matchLabels": labels})
        self.assertEqual(spec["ingress"], [{"from": [{"podSelector": {"matchLabels": labels}}]}])

    def test_job(self):
        objects = self.read("kubernetes_job.yaml")
        self.assertEqual(set(objects), {"Service", "NetworkPolicy", "Job"})
        job, service = objects["Job"], objects["Service"]
        self.assertEqual((job["apiVersion"], service["apiVersion"]), ("batch/v1", "v1"))
        # https://kubernetes.io/docs/tasks/job/job-with-pod-to-pod-communication
        name, subdomain = job["metadata"]["name"], job["spec"]["template"]["spec"]["subdomain"]
        self.assertEqual(service["metadata"]["name"], subdomain)
        self.assertEqual(service["spec"]["clusterIP"], "None")
        self.assertTrue(service["spec"]["publishNotReadyAddresses"])
        self.assertEqual(service["spec"]["selector"], {"job-name": name})
        self.assert_is_a_cluster(job["spec"], [f"{name}-{index}.{subdomain}" for index in range(4)])
        self.assert_only_the_pods_themselves_reach_them(objects["NetworkPolicy"], {"job-name": name})

    def test_jobset(self):
        objects = self.read("jobset.yaml")
        self.assertEqual(set(objects), {"NetworkPolicy", "JobSet"})
        jobset = objects["JobSet"]
        self.assertEqual(jobset["apiVersion"], "jobset.x-k8s.io/v1alpha2")
        name, spec = jobset["metadata"]["name"], jobset["spec"]
        network = {"enableDNSHostnames": True, "publishNotReadyAddresses": True, "subdomain": "tfpipe"}
        self.assertEqual(spec["network"], network)
        self.assertEqual(spec["failurePolicy"], {"maxRestarts": 3})
        (jobs,) = spec["replicatedJobs"]
        self.assertEqual(jobs["replicas"], 1)
        # A pod is JOBSET-REPLICATED_JOB-JOB_INDEX-POD_INDEX.SUBDOMAIN.
        names = [f"{name}-{jobs['name']}-0-{index}.tfpipe" for index in range(4)]
        self.assert_is_a_cluster(jobs["template"]["spec"], names)
        labels = {"jobset.sigs.k8s.io/jobset-name": name}
        self.assert_only_the_pods_themselves_reach_them(objects["NetworkPolicy"], labels)


class ScriptsTest(ClusterFilesTest):
    def test_sbatch(self):
        script = CLUSTER / "slurm.sbatch"
        subprocess.run(["bash", "-n", script], check=True)
        lines = script.read_text("utf-8").splitlines()
        self.assertEqual(lines[0], "#!/bin/bash")
        options = dict(line.removeprefix("#SBATCH --").split("=", 1) for line in lines if line.startswith("#SBATCH "))
        self.assertEqual(options["ntasks-per-node"], "1")
        self.assertEqual(options["signal"], "TERM@120")
        # SLURM reads none behind the first line that is no comment.
        first = next(number for number, line in enumerate(lines) if not line.startswith("#"))
        self.assertFalse([line for line in lines[first:] if line.startswith("#SBATCH")])
        flags = ["--dataset=a b.npy", "--l2=0.1"]
        arguments = self.run_shell(
            ["bash", script], *flags, commands={"srun": SAYS_ARGUMENTS}, SLURM_CPUS_PER_TASK="8", SLURM_JOB_ID="7"
        )
        place = arguments.index("tfpipe")
        self.assertEqual(arguments[place:], ["tfpipe", "launch", "--", "train", *flags])
        self.assertIn("--cpus-per-task=8", arguments[:place])
        self.assertIn("--distribution=block", arguments[:place])
        self.assertIn("--kill-on-bad-exit=1", arguments[:place])

    def test_machines_of_your_own(self):
        page = (CLUSTER / "README.md").read_text("utf-8")
        program = next(block.split("```")[0] for block in page.split("```sh\n")[1:] if "ssh" in block)
        commands = {"ssh": RUNS_THERE, "tfpipe": SAYS_TF_CONFIG}
        lines = self.run_shell([shutil.which("sh"), "-euc"], program, commands=commands)
        configs = [json.loads(line) for line in lines if line.startswith("{")]
        workers = ["alpha:2222", "beta:2222", "gamma:2222"]
        expected = [{"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}} for index in range(3)]
        self.assertCountEqual(configs, expected)
        self.assertCountEqual([line for line in lines if " " not in line], ["alpha", "beta", "gamma"])

    def test_the_page_names_files_that_are_there(self):
        page = (CLUSTER / "README.md").read_text("utf-8")
        there = {path.name for path in CLUSTER.iterdir()} - {"README.md"}
        self.assertEqual(there, {name for name in there if f"`{name}`" in page})


if __name__ == "__main__":
    absltest.main()
