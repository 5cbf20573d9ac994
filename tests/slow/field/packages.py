"""The packages that publish models, fetched without what they need besides Keras, into a folder of their own.

``pip`` downloads them. Stand-ins, written here at run time, take the place of what they import besides Keras (genome
readers, data sets, logging), so that only the modules that build models are run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FETCH_SECONDS = 300  # for one package
STAND_INS = "stand_ins"


@dataclass(frozen=True)
class Package:
    """A package, and what takes the place of modules that import more than Keras.

    Attributes
    ----------
    requirement : str
        As ``pip`` takes it.
    stand_ins : dict of str to str
        Modules by name, each with the folder in the archive where its submodules are; "" for a module with none,
        which gives None for every name.
    """

    requirement: str
    stand_ins: dict[str, str]

    @property
    def name(self) -> str:
        return self.requirement.partition("==")[0]


PACKAGES = (
    Package("crested==1.11.0", {"crested": "crested", "crested.tl": "crested/tl", "loguru": ""}),
    Package("chrombpnet==1.0.1", {"chrombpnet": "chrombpnet", "tensorflow_probability": ""}),
    Package("bpreveal==5.2.2", {"bpreveal": "bpreveal-5.2.2/src"}),
)

# pip asks the build backend of a source package for its metadata before it keeps the archive. bpreveal's wants a
# Fortran compiler and a Python of its own choice. This one hands over the metadata that the archive has.
BACKENDS = ("mesonpy",)
BACKEND = """from pathlib import Path


def prepare_metadata_for_build_wheel(folder, config_settings=None):
    text = Path("PKG-INFO").read_text()
    said = dict(line.split(": ", 1) for line in text.splitlines() if line.startswith(("Name: ", "Version: ")))
    info = Path(folder, f"{said['Name']}-{said['Version']}.dist-info")
    info.mkdir()
    (info / "METADATA").write_text(text)
    return info.name
"""

HOLDS = "__path__.append({folder!r})\n"
GIVES_NOTHING = "def __getattr__(name):\n    return None\n"


def fetch(folder: Path) -> dict[str, str]:
    """Put every package into ``folder``, unless it is there; why one cannot be had, by package."""
    (folder / "backends").mkdir(parents=True, exist_ok=True)
    for name in BACKENDS:
        (folder / "backends" / f"{name}.py").write_text(BACKEND)
    failures = {}
    for package in PACKAGES:
        if not (folder / package.requirement).is_dir() and (fault := _download(package, folder)):
            failures[package.name] = fault
            continue
        for module, where in package.stand_ins.items():
            _stand_in(folder, module, str(folder.resolve() / package.requirement / where) if where else "")
    return failures


def _download(package: Package, folder: Path) -> str:
    """Fetch and unpack; what went wrong, or ""."""
    into = folder / f"{package.requirement}.part"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python"]
    command += ["--no-build-isolation", "--dest", str(into), package.requirement]
    backends = {**os.environ, "PYTHONPATH": str((folder / "backends").resolve())}
    try:
        got = subprocess.run(command, capture_output=True, text=True, env=backends, timeout=FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"pip took longer than {FETCH_SECONDS} s"
    archive = next(into.glob(f"{package.name}-*"), None)
    if archive is None:
        return next((line for line in got.stderr.splitlines() if line.startswith("ERROR:")), "pip found no archive")
    if archive.suffix == ".whl":
        shutil.unpack_archive(archive, into, format="zip")
    else:
        shutil.unpack_archive(archive, into, filter="data")
    into.rename(folder / package.requirement)
    return ""


def _stand_in(folder: Path, module: str, holds: str) -> None:
    path = folder / STAND_INS / Path(*module.split(".")) / "__init__.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HOLDS.format(folder=holds) if holds else GIVES_NOTHING)


def search_path(folder: Path) -> str:
    """PYTHONPATH for a process that imports the packages, beside this repository."""
    root = Path(__file__).resolve().parents[3]
    return os.pathsep.join([str(root), str((folder / STAND_INS).resolve())])
