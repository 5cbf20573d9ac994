"""What is written into a VCF: its header, INFO keys of targets, and its index."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastism_cli.version import __version__

MAX_TBI = 2**29 - 1  # length of a contig that a .tbi index can hold; a .csi index has no limit


def info_keys(prefix: str, labels: Sequence[str]) -> list[str]:
    """An INFO key for each target: the prefix, followed by its label (as a valid key) if there are several.

    Examples
    --------
    >>> info_keys("DELTA", ["out"]), info_keys("DELTA", ["out/K562 (1)", "out/HepG2"])
    (["DELTA"], ["DELTA_out_K562__1_", "DELTA_out_HepG2"])
    """
    if len(labels) == 1:
        return [prefix]
    keys = [f"{prefix}_{re.sub(r'[^0-9A-Za-z_.]', '_', label)}" for label in labels]
    while len(set(keys)) < len(keys):
        keys = [f"{key}_{i}" if keys.count(key) > 1 else key for i, key in enumerate(keys)]
    return keys


def info_line(key: str, number: str, kind: str, description: str) -> str:
    """The header line of an INFO field."""
    quoted = re.sub(r"\s", " ", description).replace("\\", "\\\\").replace('"', '\\"')
    return f'##INFO=<ID={key},Number={number},Type={kind},Description="{quoted}">'


def header(contigs: Mapping[str, int], info_lines: Sequence[str], *, reference: str = "") -> str:
    """Everything before the first record."""
    lines = [
        "##fileformat=VCFv4.3",
        f"##source=fastism {__version__}",
        *([f"##reference={reference}"] if reference else []),
        '##FILTER=<ID=PASS,Description="All filters passed">',
        *(f"##contig=<ID={name},length={size}>" for name, size in contigs.items()),
        *info_lines,
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
    ]
    return "\n".join(lines) + "\n"


def index_names(path: str) -> list[str]:
    """The names that an index of a VCF may have; none of one that is not compressed."""
    return [] if path.endswith(".vcf") else [f"{path}.tbi", f"{path}.csi"]


def index(pysam: Any, path: str, contigs: Mapping[str, int], last: int = 0) -> str:
    """Index a sorted, bgzipped VCF: ``PATH.tbi``, or ``PATH.csi`` if a contig is too long for that.

    Parameters
    ----------
    last : int
        The largest position of a record, which may be beyond its contig.
    """
    is_long = max([last, *contigs.values()]) > MAX_TBI
    name = path + (".csi" if is_long else ".tbi")
    pysam.tabix_index(path, preset="vcf", force=True, csi=is_long, index=name)
    return name
