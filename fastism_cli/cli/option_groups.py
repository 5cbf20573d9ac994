"""The options of a command in groups, as ``--help`` shows them."""

from __future__ import annotations

import click

from fastism_cli.cli.click_options import Strict

# The parameters of each group, by name; a group has those that the command has. A new option of ``fastism run`` joins
# one of them.
GROUPS = {
    "Input": "model bed vcf_path fasta limit missing_contig ref_mismatch inputs",
    "Sequence": "center offset stranded edge max_n tile share",
    "Changes": "window within n_policy replace_with width step samples seed",
    "Model": "weights signature custom_objects rules allow_lambda sequence_input tie codes length alphabet",
    "Scores": "targets target_names reduce scale fold_change around rc rc_pairs shifts average spread",
    "Compute": "engine batch_size devices precision check",
    "Output": "output dtype compression overwrite shard resume checkpoint summary dry_run",
    "Messages": "quiet verbose",
}
OTHERS = "Other"  # what the table does not name, such as --help


class Grouped(Strict):
    """A strict command with many options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, params in grouped(self.get_params(ctx)).items():
            records = [record for param in params if (record := param.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def grouped(params: list[click.Parameter]) -> dict[str, list[click.Parameter]]:
    """Parameters by the title of their group, in the order of the table; those that it does not name come last."""
    by_name = {str(param.name): param for param in params}
    groups = {}
    for title, names in GROUPS.items():
        groups[title] = [by_name.pop(name) for name in names.split() if name in by_name]
    return groups | {OTHERS: list(by_name.values())}
