"""Whether a VCF belongs to the FASTA: its contigs, their lengths, and REF of every record.

A quarter of all single bases fits any genome. So the records are counted before anything is scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fastism_cli.errors import GenomeError, RegionError, SequenceError, log_of
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.genome.fasta import Genome, matched_contigs, renaming_line, why_no_match
from fastism_cli.genome.vcf_files import Variant, VariantSource
from fastism_cli.options.problems import Listing

logger = log_of(__name__)

# A genome's own errors are far rarer than this share of its records.
MAX_SHARE, FEW = 0.05, 3
# One contig of another sequence among many, such as chrM of hg19. Small contigs are uneven, so it takes more.
MAX_SHARE_OF_CONTIG, FEW_OF_CONTIG = 0.2, 5
EXPLAINED = 0.8  # of the records that disagree: then the mistake is named

# What each kind of disagreement looks like.
MISTAKES = {
    "outside": "positions beyond the ends of contigs, as of another genome or build",
    "from 0": "POS seems to count from 0, as in a BED: REF fits one base further on",
    "one more": "POS seems to be one too large: REF fits one base before",
    "swapped": "REF and ALT seem to be swapped, as PLINK writes them: ALT is in the FASTA",
    "strand": "REF seems to be on the - strand: its complement is in the FASTA",
}


# --- contigs ---------------------------------------------------------------------------------------------------------


def contigs_in_fasta(source: VariantSource, genome: Genome, missing_contig: str) -> dict[str, str]:
    """The name in the FASTA of each contig of the VCF.

    A contig is known by its name, or by its name with or without ``chr`` if its length, where ``##contig`` gives it,
    is that of the FASTA: MT of 16,569 bases is not chrM of 16,571.

    Raises
    ------
    RegionError
        If ``missing_contig`` is "error": lists the contigs that the FASTA lacks.
    """
    found = source.summary.contigs
    by_name = matched_contigs(genome, found, source.contig_lengths)
    others = {name: _other_length(source, genome, name, own) for name, own in by_name.items() if name != own}
    others |= {name: why_no_match(genome, name) for name in found if name not in by_name}
    matched = {name: own for name, own in by_name.items() if not others.get(name)}
    if line := renaming_line(genome, matched, source.name):
        logger.info(line)
    missing = {name: number + 1 for name, number in found.items() if name not in matched}
    if missing and missing_contig == "error":
        problems = Listing(
            f"record {number:,}: contig {name!r}{others.get(name, '')}" for name, number in missing.items()
        )
        hint = "Use --missing-contig skip."
        if problems.count == 1:
            raise RegionError(f"{source.name} {problems.first} is not in {genome.path}. {hint}")
        raise RegionError(problems.under(f"{problems.count} contigs of {source.name} are not in {genome.path}. {hint}"))
    for name, why in others.items():
        if why:
            logger.warning(f"{source.name}: contig {name!r} is kept unscored{why}")
    return matched


def _other_length(source: VariantSource, genome: Genome, name: str, own: str) -> str:
    """Why a contig is not the one of the FASTA with a similar name; "" if it is."""
    length, size = source.contig_lengths.get(name), genome.sizes[own]
    if length in (None, size):
        return ""
    return f" ({length:,} bases in its ##contig line, so it is not {own} of {size:,} bases)"


def length_differences(source: VariantSource, genome: Genome) -> str:
    """``##contig`` lines that give another length than the FASTA has; "" if there are none."""
    different = [
        f"{name} has {length:,} bases in ##contig and {genome.sizes[name]:,} in {genome.path}"
        for name, length in source.contig_lengths.items()
        if length != genome.sizes.get(name, length)
    ]
    more = f", and {len(different) - 1:,} contigs more differ" if len(different) > 1 else ""
    return f"{different[0]}{more}" if different else ""


# --- REF -------------------------------------------------------------------------------------------------------------


@dataclass
class RefCounts:
    """How many records have their REF in the FASTA.

    Attributes
    ----------
    checked, wrong : Counter of str
        For each contig of the VCF, the records that can be checked, and those of them that disagree.
    explained : Counter of str
        How many records that disagree look like each of :data:`MISTAKES`.
    first : str
        The first record that disagrees, for a message.
    """

    checked: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    explained: Counter[str] = field(default_factory=Counter)
    first: str = ""

    def add(self, genome: Genome, chrom: str, variant: Variant, alphabet: Alphabet) -> None:
        """Count a record on the contig ``chrom`` of the FASTA, unless it holds an N there or in REF."""
        ref = alphabet.encode(variant.ref)
        there = genome.codes(chrom, variant.position, variant.position + len(ref), alphabet)
        is_inside = 0 <= variant.position <= genome.sizes[chrom] - len(ref)
        if (ref == alphabet.unknown).any() or (is_inside and (there == alphabet.unknown).any()):
            return
        self.checked[variant.chrom] += 1
        if not is_inside or (ref != there).any():
            self.wrong[variant.chrom] += 1
            self.first = self.first or mismatch_text(genome, chrom, variant, alphabet)
            self.explained.update(_looks_like(genome, chrom, variant, alphabet))

    def worst(self, *, is_other_length: bool) -> str:
        """Which records disagree far more often than a genome's own errors would; "" if none do."""
        checked, wrong = self.checked.total(), self.wrong.total()
        few = 1 if is_other_length else FEW
        if wrong and (wrong == checked or (wrong >= few and wrong > MAX_SHARE * checked)):
            return _share(wrong, checked, "records")
        for name, n in self.wrong.items():
            if n >= FEW_OF_CONTIG and n > MAX_SHARE_OF_CONTIG * self.checked[name]:
                return _share(n, self.checked[name], f"records on {name}")
        return ""

    def mistake(self) -> str:
        """What it looks like."""
        name, n = next(iter(self.explained.most_common(1)), ("", 0))
        if n >= max(FEW, EXPLAINED * self.wrong.total()):
            return MISTAKES[name]
        return "it looks like another genome or build, of which about a quarter of the single bases fits by chance"


def check_genome(
    source: VariantSource, genome: Genome, contigs: Mapping[str, str], alphabet: Alphabet, ref_mismatch: str
) -> None:
    """Compare the lengths of contigs and all REF with the FASTA.

    Parameters
    ----------
    contigs : mapping of str to str
        The name in the FASTA of each contig of the VCF.
    ref_mismatch : "error" or "skip"
        What a VCF of another genome is: refused, or a warning.

    Raises
    ------
    GenomeError
        If far more records disagree than a genome's own errors would explain.
    """
    lengths = length_differences(source, genome)
    counts = RefCounts()
    for variant in source.variants():
        if variant.chrom in contigs:
            counts.add(genome, contigs[variant.chrom], variant, alphabet)
    worst = counts.worst(is_other_length=bool(lengths))
    if not worst:
        if lengths:
            logger.warning(f"{source.name} may be of another genome or build: {lengths}")
        return
    told = "; ".join(filter(None, [counts.mistake(), lengths]))
    message = f"{source.name}: REF of {worst} is not in {genome.path}: {told}. The first: {counts.first}."
    if ref_mismatch == "error":
        raise GenomeError(
            f"{message} Give the FASTA on which the variants were called, or go on with --ref-mismatch skip."
        )
    logger.warning(message)


def _share(wrong: int, checked: int, what: str) -> str:
    return f"{wrong:,} of {checked:,} {what} ({100 * wrong / checked:.0f} %)"


def _looks_like(genome: Genome, chrom: str, variant: Variant, alphabet: Alphabet) -> Iterator[str]:
    """Mistakes that would explain why REF is not in the FASTA."""
    start, ref = variant.position, alphabet.encode(variant.ref)
    stop = start + len(ref)
    if start < 0 or stop > genome.sizes[chrom]:
        yield "outside"
    for mistake, shift in (("from 0", 1), ("one more", -1)):
        if (genome.codes(chrom, start + shift, stop + shift, alphabet) == ref).all():
            yield mistake
    for alt in map(alphabet.encode, variant.alts):
        if (genome.codes(chrom, start, start + len(alt), alphabet) == alt).all():
            yield "swapped"
            break
    try:
        other = alphabet.reverse_complement(ref)
    except SequenceError:  # an alphabet without complements
        return
    if (genome.codes(chrom, start, stop, alphabet) == other).all():
        yield "strand"


def ref_matches(genome: Genome, chrom: str, variant: Variant, alphabet: Alphabet) -> bool:
    """Whether the FASTA has REF at its place. Case does not matter; letters that are not bases match an N."""
    stop = variant.position + len(variant.ref)
    if variant.position < 0 or stop > genome.sizes[chrom]:
        return False
    return bool((genome.codes(chrom, variant.position, stop, alphabet) == alphabet.encode(variant.ref)).all())


def mismatch_text(genome: Genome, chrom: str, variant: Variant, alphabet: Alphabet) -> str:
    """The message about a REF that differs from the FASTA."""
    if not 0 <= variant.position <= genome.sizes[chrom] - len(variant.ref):
        return f"{variant.place}: {chrom} has {genome.sizes[chrom]:,} bases"
    stop = variant.position + min(len(variant.ref), 20)
    there = alphabet.decode(genome.codes(chrom, variant.position, stop, alphabet))
    return f"{variant.place}: REF {variant.ref[:20]}, FASTA {there}"
