"""``python -m tests.clusters.nextflow``: the example modules, by Nextflow itself where it is installed.

Everywhere, the command of every process is read from its file and given to ``fastism``'s own parser.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click

from fastism_cli.cli import main as fastism

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FOLDER = EXAMPLES / "nextflow"

# What stands for the variables of a process: files of the demo, where the parser asks for files that exist.
VALUES = {
    "run": {"model": "demo.keras", "bed": "demo.bed", "fasta": "demo.fa", "shard": "0", "shards": "4"},
    "merge": {"shards": "demo.bed demo.fa"},
}
EVERYWHERE = {"prefix": "peaks", "args": ""}


def scripts(folder: Path = FOLDER) -> dict[str, str]:
    """The script of every process, on one line, by the name of the process."""
    found = {}
    for path in sorted(folder.rglob("main.nf")):
        for name, body in re.findall(r"^process (\w+) \{\n(.*?)^\}", path.read_text(), re.MULTILINE | re.DOTALL):
            (script,) = re.findall(r"^    script:\n.*?\"\"\"\n(.*?)\"\"\"", body, re.MULTILINE | re.DOTALL)
            found[name] = " ".join(script.replace("\\\\\n", " ").split())
    return found


def check(script: str) -> None:
    """Give a script to the parser of the command that it calls.

    Raises
    ------
    click.UsageError
        If the command, or an option or a value of it, is not there.
    KeyError
        If the script has a variable that is not known here.
    """
    program, name = shlex.split(script)[:2]
    if program != "fastism":
        raise click.UsageError(f"it calls {program}")
    with click.Context(fastism) as context:
        command = fastism.get_command(context, name)
        if command is None:
            raise click.UsageError(f"there is no command {name}")
        values = VALUES[name] | EVERYWHERE
        filled = re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], script)
        before = Path.cwd()
        os.chdir(EXAMPLES)
        try:
            command.make_context(name, shlex.split(filled)[2:], parent=context)
        finally:
            os.chdir(before)


def main() -> int:
    found = scripts()
    for name, script in found.items():
        check(script)
        print(f"{name}: its command is one of fastism, with options that it has: {script}")
    if not shutil.which("nextflow"):
        print("NOT RUN: the workflow itself: Nextflow is not installed", file=sys.stderr)
        return 0 if found else 1
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["nextflow", "run", "main.nf", "-stub-run"], cwd=FOLDER, env=os.environ | {"PATH": path}
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
