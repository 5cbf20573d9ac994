"""One file per family of layers; importing this package fills the rule table."""

from fastism_cli.rules import (
    affine,
    conv,
    dense,
    layout,
    merge,
    operations,
    pointwise,
    pool,
    reduction,
    shape,
    spatial,
    spatial_pool,
    whole,
    wrappers,
)
from fastism_cli.rules.table import register_rule, rule_of

__all__ = [
    "affine",
    "conv",
    "dense",
    "layout",
    "merge",
    "operations",
    "pointwise",
    "pool",
    "reduction",
    "register_rule",
    "rule_of",
    "shape",
    "spatial",
    "spatial_pool",
    "whole",
    "wrappers",
]
