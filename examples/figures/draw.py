"""Draw one picture of each kind by the command line: `make figures`, in some seconds.

The results that they show are made by `make figures ANEW=1`: a peak of the demo, the same peak with its CTCF motif
changed, an interval around it in tiles, the peak in blocks, and a bigWig of the importance. motifs.bed holds the motifs
that were planted in the demo's peaks, genes.gtf two genes that were made up.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
EXAMPLES, ROOT = HERE.parent, HERE.parents[1]
PEAK = ("chr3", 28141, 28641, "peak_52")
MOTIF = (28380, 28399)  # CTCF, on the - strand

# name of the picture: what it shows, and the arguments of `fastism plot`
KINDS = {
    "targets.png": (
        "three targets on one axis, one column of a journal wide",
        "peak_52.ism.h5 --name peak_52 --target ap1 --target gata --target ctcf --bases 60 --width 89mm --font-size 7",
    ),
    "tracks.png": (
        "motifs of a BED, genes of a GTF, a bigWig and a shaded place, two columns wide",
        "peak_52.ism.h5 --region chr3:28,331-28,460 --target ctcf --width 183mm --track motifs.bed --track genes.gtf "
        "--track importance=ctcf.bw --highlight chr3:28,381-28,399",
    ),
    "rows.png": (
        "a whole peak in rows of 125 bases",
        "peak_52.ism.h5 --name peak_52 --bases all --wrap 125 --target ctcf --no-heat-map --width 183mm "
        "--track motifs.bed",
    ),
    "before-after.png": (
        "two results, before and after the motif was changed, one column wide",
        "peak_52.ism.h5 changed.ism.h5 --label before --label after --region chr3:28,361-28,420 --target ctcf "
        "--width 89mm --font-size 7 --title none",
    ),
    "tiles.png": (
        "an interval of 1,200 bases, scored in three tiles",
        "tiled.ism.h5 --name long --bases all --target ctcf --width 183mm --height 60mm --no-heat-map "
        "--track motifs.bed",
    ),
    "minus.png": (
        "the strand of the record, with two heat maps that have their own colours",
        "peak_52.ism.h5 --name peak_52 --strand region --target ap1 --target ctcf --heat-map --own-y --bases 50 "
        "--width 89mm --font-size 7",
    ),
    "blocks.png": (
        "single letters, and below them blocks of 10 bases that were replaced with N, one every 2",
        "peak_52.ism.h5 blocks.ism.h5 --label letters --label blocks --region chr3:28,351-28,430 --target ctcf "
        "--width 183mm --height 70mm --track motifs.bed",
    ),
}


def fastism(arguments: str, folder: Path) -> None:
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    call = [sys.executable, "-m", "fastism_cli", *shlex.split(arguments)]
    subprocess.run(call, check=True, cwd=folder, env=os.environ | paths)


def make_results() -> None:
    """The results and the bigWig that the pictures show."""
    chrom, start, end, name = PEAK
    with tempfile.TemporaryDirectory(prefix="fastism-") as made:
        folder = Path(made)
        for file in ("demo.keras", "demo.fa"):
            (folder / file).symlink_to((EXAMPLES / file).resolve())
        (folder / "peak.bed").write_text(f"{chrom}\t{start}\t{end}\t{name}\t0\t-\n")
        (folder / "long.bed").write_text(f"{chrom}\t{start - 350}\t{end + 350}\tlong\t0\t+\n")
        (folder / "changed.fa").write_text(changed_genome())
        run = "run -q --model demo.keras --bed"
        fastism(f"{run} peak.bed --fasta demo.fa --output peak_52.ism.h5", folder)
        fastism(f"{run} peak.bed --fasta changed.fa --output changed.ism.h5", folder)
        fastism(f"{run} long.bed --fasta demo.fa --output tiled.ism.h5 --tile --window 400", folder)
        blocks = "--replace-with N --width 10 --step 2"
        fastism(f"{run} peak.bed --fasta demo.fa --output blocks.ism.h5 {blocks}", folder)
        fastism("export -q peak_52.ism.h5 --format bigwig --targets ctcf --output ctcf.bw", folder)
        for file in ("peak_52.ism.h5", "changed.ism.h5", "tiled.ism.h5", "blocks.ism.h5", "ctcf.bw"):
            (HERE / file).write_bytes((folder / file).read_bytes())


def changed_genome() -> str:
    """The demo's genome with three bases of the motif changed."""
    changed = []
    for record in (EXAMPLES / "demo.fa").read_text().split(">")[1:]:
        name, _, sequence = record.partition("\n")
        letters = list(sequence.replace("\n", ""))
        if name.split()[0] == PEAK[0]:
            for at in (MOTIF[0] + 5, MOTIF[0] + 8, MOTIF[0] + 12):
                letters[at] = "A" if letters[at].upper() != "A" else "T"
        changed.append(f">{name}\n{''.join(letters)}\n")
    return "".join(changed)


def page() -> str:
    """README.md of this folder."""
    head = "# Pictures\n\nOne of each kind that `fastism plot` draws, in this folder; `make figures` draws all.\n"
    parts = [
        f"\n## {what[0].upper()}{what[1:]}\n\n    fastism plot {arguments} -o {name}\n\n![{what}]({name})\n"
        for name, (what, arguments) in KINDS.items()
    ]
    return head + "".join(parts)


def main() -> None:
    if os.environ.get("ANEW"):
        make_results()
    for name, (_, arguments) in KINDS.items():
        fastism(f"plot -q {arguments} --output {name} --overwrite", HERE)
    (HERE / "README.md").write_text(page())


if __name__ == "__main__":
    main()
