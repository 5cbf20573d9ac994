"""A SLURM of one node on this machine: the real munged, slurmctld and slurmd, with all their state in one folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clusters.job import environment, not_run

SECONDS_TO_END = 30.0  # that jobs get: SLURM kills them after KillWait
CONFIG = """
ClusterName=fastism
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=20
SchedulerParameters=sched_interval=2,sched_min_interval=100000
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def installed() -> None:
    """Install SLURM where it is missing and can be; end this test where it cannot."""
    if os.geteuid():
        not_run("SLURM", "its daemons need root here")
    if all(map(shutil.which, ("slurmctld", "slurmd", "munged"))):
        return
    if not shutil.which("apt-get"):
        not_run("SLURM", "it is not installed, and there is no apt-get to install it with")
    commands = (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "slurm-wlm", "munge"])
    for command in commands:
        if subprocess.run(command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=False).returncode:
            not_run("SLURM", f"{' '.join(command)} failed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def srun_that_finds_it(folder: Path, config: Path) -> Path:
    """A folder with an ``srun`` that is told where the configuration is.

    Snakemake starts srun without the variables of SLURM, with SLURM_CONF too: it looks in the system's own place.
    """
    (folder / "bin").mkdir()
    script = folder / "bin" / "srun"
    script.write_text(f'#!/bin/sh\nSLURM_CONF={config} exec {shutil.which("srun")} "$@"\n')
    script.chmod(0o755)
    return script.parent


def memory() -> int:
    """Of this machine, in MB: a little less than there is, for a node that has less than it says is drained."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1 << 20) * 9 // 10


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start it; yields the variables with which its commands find it."""
    installed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is started here is stopped
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    ports = {"controller": free_port(), "daemon": free_port()}
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=host, folder=folder, cpus=os.cpu_count(), memory=memory(), **ports))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    paths = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
    options = [f"--{name}={folder / file}" for name, file in {**paths, "seed-file": "munge.seed"}.items()]
    found = environment(SLURM_CONF=str(config))
    found["PATH"] = f"{srun_that_finds_it(folder, config)}:{found['PATH']}"
    daemons = [
        ["munged", "--force", "--foreground", *options],
        ["slurmctld", "-c", "-D", "-f", str(config)],
        ["slurmd", "-D", "-f", str(config), "-N", host],
    ]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in daemons:
            log = (folder / f"{command[0]}.out").open("wb")
            started.append(subprocess.Popen(command, env=found, stdout=log, stderr=log))
            time.sleep(1)
        wait_until_idle(found, folder)
        try:
            yield found
        finally:
            cancel_all(found)
    finally:
        for daemon in reversed(started):
            daemon.terminate()
        for daemon in started:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def cancel_all(found: dict[str, str]) -> None:
    """Jobs outlive the daemons: end those that a failed test has left."""
    subprocess.run(["scancel", "--state=RUNNING"], env=found, check=False)
    subprocess.run(["scancel", "--state=PENDING"], env=found, check=False)
    until = time.monotonic() + SECONDS_TO_END
    while time.monotonic() < until:
        left = subprocess.run(["squeue", "-h"], env=found, capture_output=True, text=True, check=False)
        if not left.stdout.strip():
            return
        time.sleep(0.5)


def wait_until_idle(found: dict[str, str], folder: Path) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        told = subprocess.run(["sinfo", "-h", "-o", "%t"], env=found, capture_output=True, text=True, check=False)
        if told.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    logs = "\n".join(file.read_text(errors="replace")[-2000:] for file in sorted(folder.glob("*.log")))
    raise RuntimeError(f"SLURM does not start: {told.stdout}{told.stderr}\n{logs}")
