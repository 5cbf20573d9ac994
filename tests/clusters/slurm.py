"""The example array job on a real SLURM: tasks cancelled, killed and told that their time is up; then merged.

``make test-slurm``
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.clusters.cluster import slurm
from tests.clusters.job import EXAMPLES, inputs, whole_run
from tests.helpers.same_results import assert_same_results

SHARDS, REGIONS = 4, 4800  # a task must last long enough to be disturbed: fifteen seconds on a quick machine
PATIENCE = 600.0  # seconds for each step, on a machine that others use too


class Cluster:
    """Commands of SLURM, and what the array has written."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder, self.variables = folder, variables

    def __call__(self, *command: str, fails: bool = False) -> str:
        done = subprocess.run(command, env=self.variables, cwd=self.folder, capture_output=True, text=True, check=False)
        if bool(done.returncode) != fails:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return (done.stderr if fails else done.stdout).strip()

    def submit(self, array: str) -> str:
        return self("sbatch", "--parsable", f"--array={array}", str(EXAMPLES / "slurm" / "ism.sbatch"))

    def output(self, shard: int) -> Path:
        return self.folder / f"ism.shard-{shard}-of-{SHARDS}.ism.h5"

    def wait_for(self, what: str, condition) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > until:
                logs = "\n".join(f"{p.name}: {p.read_text()[-800:]}" for p in sorted(self.folder.glob("ism-*.log")))
                raise RuntimeError(f"{what} takes too long:\n{self('squeue', '-a')}\n{logs}")
            time.sleep(0.1)
        say(what)

    def has_rows(self, shard: int) -> bool:
        if self.output(shard).exists():
            raise RuntimeError(f"task {shard} ended before it could be disturbed: give it more regions")
        return Path(f"{self.output(shard)}.partial.journal").exists()

    def process_of(self, shard: int) -> int:
        """The process of ``fastism`` itself, found by its own output among those of this user."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(self.output(shard).name).encode() in words and b"run" in words:
                return int(entry.name)
        raise RuntimeError(f"no process writes shard {shard}")

    def signal(self, task: str) -> None:
        """Send USR1 to the script of a task. scancel asks again for a minute once the task has left its node."""
        number = self("squeue", "-h", "-j", task, "-o", "%A")
        process = subprocess.Popen(["scancel", "--batch", "--signal=USR1", number], env=self.variables)
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def queue(self, job: str) -> str:
        return self("squeue", "-h", "-j", job, "-o", "%T") if self._is_known(job) else ""

    def _is_known(self, job: str) -> bool:
        known = subprocess.run(["squeue", "-h", "-j", job], env=self.variables, capture_output=True, check=False)
        return known.returncode == 0


def say(what: str) -> None:
    print(f"  {what}", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        given = inputs(folder, REGIONS)
        more = {"OUT": "ism", "SHARDS": str(SHARDS), "FASTISM_ARGS": "--checkpoint 0.2 --no-check"}
        with slurm(folder) as variables:
            cluster = Cluster(folder, {**variables, **given, **more})
            disturb(cluster)
            missing = missing_shards(cluster)
            job = cluster.submit(missing)
            cluster.wait_for(f"shards {missing} alone were run again", lambda: not cluster.queue(job))
            merged = folder / "merged.h5"
            cluster("fastism", "merge", *map(str, sorted(folder.glob("ism.shard-*.h5"))), "-o", str(merged))
        assert "are done already" in "".join(log.read_text() for log in folder.glob(f"ism-{job}_*.log"))
        arrays = assert_same_results(merged, whole_run(folder, given, "--no-check"))
    print(f"SLURM: {SHARDS} tasks, one cancelled, one killed, one requeued; {arrays} arrays equal one run")


def disturb(cluster: Cluster) -> None:
    """Task 0 is told that its time is up, 1 cancelled, 2 killed; 3 runs to its end."""
    job = cluster.submit(f"0-{SHARDS - 1}")
    cluster.wait_for("task 0 has rows", lambda: cluster.has_rows(0))
    cluster.signal(f"{job}_0")
    cluster.wait_for("task 1 has rows", lambda: cluster.has_rows(1))
    cluster("scancel", f"{job}_1")
    cluster.wait_for("task 2 has rows", lambda: cluster.has_rows(2))
    os.kill(cluster.process_of(2), signal.SIGKILL)
    cluster.wait_for("task 0 was queued again", lambda: "requeue" in log_of(cluster, job, 0) or restarted(cluster, job))
    cluster("scontrol", "update", f"JobId={job}_0", "StartTime=now")
    cluster.wait_for("all tasks have ended", lambda: not cluster.queue(job))
    assert cluster.output(0).exists() and cluster.output(3).exists()
    assert "stopped by SIGUSR1" in log_of(cluster, job, 0) and "are done already" in log_of(cluster, job, 0)


def restarted(cluster: Cluster, job: str) -> bool:
    told = subprocess.run(
        ["scontrol", "show", "job", f"{job}_0"], env=cluster.variables, capture_output=True, text=True, check=False
    )
    return "Restarts=1" in told.stdout


def log_of(cluster: Cluster, job: str, task: int) -> str:
    path = cluster.folder / f"ism-{job}_{task}.log"
    return path.read_text() if path.exists() else ""


def missing_shards(cluster: Cluster) -> str:
    """What ``fastism merge`` says of the two that are missing."""
    outputs = [str(cluster.output(i)) for i in range(SHARDS)]
    there = [path for path in outputs if Path(path).exists()]
    told = cluster("fastism", "merge", *there, "-o", "merged.h5", fails=True)
    found = re.search(r"run --array=(\S+)$", told)
    assert found and found[1] == "1-2", told
    say(told)
    return found[1]


if __name__ == "__main__":
    sys.exit(main())
