"""One file per family of layers; importing this package fills the rule table."""

from fastism_cli.rules import (
    affine,
    conv,
    dense,
    layout,
    letters,
    merge,
    operations,
    pointwise,
    pool,
    reduction,
    shape,
    spatial,
    spatial_pool,
    summed,
    whole,
    wrappers,
)
from fastism_cli.rules.base import EVERYWHERE, Decline, Form, Rule, Window, per_position
from fastism_cli.rules.table import register_rule, rule_of

__all__ = [
    "EVERYWHERE",
    "Decline",
    "Form",
    "Rule",
    "Window",
    "affine",
    "conv",
    "dense",
    "layout",
    "letters",
    "merge",
    "operations",
    "per_position",
    "pointwise",
    "pool",
    "reduction",
    "register_rule",
    "rule_of",
    "shape",
    "spatial",
    "spatial_pool",
    "summed",
    "whole",
    "wrappers",
]
