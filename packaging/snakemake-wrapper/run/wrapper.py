"""``fastism run`` for Snakemake."""

__author__ = "The fastism developers"
__license__ = "MIT"

from shlex import quote

from snakemake.shell import shell

# Snakemake puts it in the place of a global name.
job = snakemake  # noqa: F821
optional = {"bed": job.input.get("bed"), "summary": job.output.get("summary")}
options = " ".join(f"--{name} {quote(str(value))}" for name, value in optional.items() if value)
extra = job.params.get("extra", "")
log = job.log_fmt_shell(stdout=True, stderr=True)

shell(
    "fastism run --model {job.input.model:q} --fasta {job.input.fasta:q} {options}"
    " --output {job.output.ism:q} --resume {extra} {log}"
)
