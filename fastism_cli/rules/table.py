"""The rule table: from a layer's exact class to its rule.

Classes are looked up exactly, never by ``isinstance``: a subclass may override ``call``.
"""

from __future__ import annotations

from fastism_cli.graph import Node
from fastism_cli.rules.base import Rule

RULES: dict[type, Rule] = {}


def define(rule: Rule, *classes: type) -> None:
    """Let ``rule`` hold for these layer classes."""
    for cls in classes:
        RULES[cls] = rule


def register_rule(cls: type, *, like: type) -> None:
    """Give a class of your own the rule of a Keras class: you vouch that its ``call`` is of the same kind.

    Raises
    ------
    KeyError
        If ``like`` has no rule.
    """
    if like not in RULES:
        raise KeyError(f"{like.__name__} has no rule; choose one of: {', '.join(sorted(c.__name__ for c in RULES))}")
    RULES[cls] = RULES[like]


def rule_of(node: Node) -> Rule | None:
    """The rule of this node, or None: then it is opaque."""
    rule = RULES.get(type(node.layer))
    return rule.choose(node) if rule is not None else None
