"""The example workflow by the real Snakemake: a rerun does nothing, a deleted shard reruns alone.

``make test-snakemake``; the first argument is the ``snakemake`` to run. With ``--slurm`` it runs through the SLURM
executor instead, by the example's profile, on a SLURM of its own; with ``--wrapper`` the test of the wrapper is run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fastism_cli.results.ism_file import read_result
from tests.clusters.cluster import slurm
from tests.clusters.job import EXAMPLES, environment, inputs, whole_run
from tests.helpers.same_results import assert_same_results

WRAPPER, IN_COLLECTION = EXAMPLES.parent / "packaging" / "snakemake-wrapper" / "run", "master/bio/fastism/run"
SHARDS, REGIONS, SLURM_REGIONS = 3, 90, 12
SLURM_SECONDS = 900  # four jobs, one after the other where there are two cores
# The cluster keeps no accounts: sacct knows no job, and there is none to charge.
NO_ACCOUNTS = ["--slurm-status-command", "squeue", "--slurm-no-account"]


def snakemake(program: str, folder: Path, variables: dict[str, str], *more: str, seconds: float | None = None) -> str:
    command = [program, "--cores", "2", *more]
    options = {"cwd": folder, "env": variables, "capture_output": True, "text": True, "timeout": seconds}
    done = subprocess.run(command, check=False, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def prepare(folder: Path, regions: int = REGIONS, args: str = "") -> dict[str, str]:
    """The example's workflow, with a larger BED."""
    shutil.copytree(EXAMPLES / "snakemake", folder, dirs_exist_ok=True)
    given = inputs(folder, regions)
    paths = {"model": given["MODEL"], "bed": given["BED"], "fasta": given["FASTA"]}
    lines = {**paths, "out": "out", "shards": SHARDS, "args": f"'{args}'"}
    (folder / "config.yaml").write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
    return given


def main(program: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, variables = Path(name), environment()
        given = prepare(folder)
        snakemake(program, folder, variables)
        arrays = assert_same_results(folder / "out" / "ism.h5", whole_run(folder, given))
        assert "Nothing to be done" in snakemake(program, folder, variables)
        stamps = {path: path.stat().st_mtime_ns for path in (folder / "out" / "shards").glob("*.h5")}
        # Snakemake asks for no shard as long as the merged file is there
        (folder / "out" / "ism.h5").unlink()
        (folder / "out" / "shards" / "1.ism.h5").unlink()
        snakemake(program, folder, variables)
        renewed = [path.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
        assert renewed == ["1.ism.h5"], renewed
        assert_same_results(folder / "out" / "ism.h5", folder / "whole.h5")
    print(
        f"Snakemake: {SHARDS} shards, {arrays} arrays equal one run; a rerun did nothing, one deleted shard ran alone"
    )


def on_slurm(program: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        given = prepare(folder / "workflow", SLURM_REGIONS, "--no-check")
        (folder / "slurm").mkdir()
        with slurm(folder / "slurm") as variables:
            options = ["--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "5", *NO_ACCOUNTS]
            variables |= {"USER": os.environ.get("USER", "root")}
            told = snakemake(program, folder / "workflow", variables, *options, seconds=SLURM_SECONDS)
            jobs = len(re.findall(r"submitted with SLURM jobid", told))
        arrays = assert_same_results(
            folder / "workflow" / "out" / "ism.h5", whole_run(folder / "workflow", given, "--no-check")
        )
        assert jobs == SHARDS + 1, told
    print(f"Snakemake on SLURM: {jobs} jobs by the example's profile, {arrays} arrays equal one run")


def by_wrapper(program: str) -> None:
    """The test of the wrapper in packaging/, without its conda environment."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("demo.keras", "demo.bed", "demo.fa"):
            shutil.copy(EXAMPLES / file, folder)
        text = (WRAPPER / "test" / "Snakefile").read_text()
        assert IN_COLLECTION in text
        (folder / "Snakefile").write_text(text.replace(IN_COLLECTION, f"file://{WRAPPER}"))
        snakemake(program, folder, environment())
        rows = len(read_result(str(folder / "results" / "demo.ism.h5")).seq)
        assert rows == 5 and (folder / "results" / "demo.json").exists()
        assert "5 regions" in (folder / "logs" / "demo.log").read_text()
    print(f"Snakemake: the wrapper scored {rows} regions")


WAYS = {"--slurm": on_slurm, "--wrapper": by_wrapper}

if __name__ == "__main__":
    next((way for option, way in WAYS.items() if option in sys.argv[2:]), main)(sys.argv[1])
