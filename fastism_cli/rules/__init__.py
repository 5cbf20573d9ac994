"""One file per family of layers; importing this package fills the rule table."""

from fastism_cli.rules import conv, dense, letters, merge, pointwise, pool, reduction, shape
from fastism_cli.rules.table import register_rule, rule_of

__all__ = ["conv", "dense", "letters", "merge", "pointwise", "pool", "reduction", "register_rule", "rule_of", "shape"]
