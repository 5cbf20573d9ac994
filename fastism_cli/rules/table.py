"""The rule table: from a layer's exact class to its rule.

Classes are looked up exactly, never by ``isinstance``: a subclass may override ``call``.
"""

from __future__ import annotations

from fastism_cli.errors import RuleError
from fastism_cli.model.graph import Node
from fastism_cli.rules.base import Rule

RULES: dict[type, Rule] = {}
NAMED: dict[str, Rule] = {}  # for classes of the user's, by name


def define(rule: Rule, *classes: type) -> None:
    """Let ``rule`` hold for these layer classes."""
    for cls in classes:
        RULES[cls] = rule


def register_rule(cls: type | str, rule: Rule | None = None, *, like: type | None = None) -> None:
    """Give a class of your own a rule: one that you wrote, or that of a Keras class.

    Parameters
    ----------
    cls : type or str
        The class itself, or its name, which then stands for any class of that name that is not one of Keras.
    rule : Rule, optional
        A rule of yours; see :class:`fastism_cli.rules.Rule`.
    like : type, optional
        A Keras class: you vouch that ``cls`` computes in the same way with attributes of the same names.

    Raises
    ------
    RuleError
        If neither or both of ``rule`` and ``like`` are given, or ``like`` has no rule.
    """
    if (rule is None) == (like is None):
        raise RuleError(f"register_rule takes a rule or like=CLASS. Received: rule={rule!r}, like={like!r}")
    if like is not None and like not in RULES:
        known = ", ".join(sorted(c.__name__ for c in RULES))
        raise RuleError(f"{like.__name__} has no rule; choose one of: {known}")
    if rule is not None and not isinstance(rule, Rule):
        raise RuleError(f"a rule must be an object of a subclass of Rule. Received: {rule!r}")
    given = rule if rule is not None else RULES[like]  # type: ignore[index]
    if isinstance(cls, str):
        NAMED[cls] = given
    else:
        RULES[cls] = given


def rule_of(node: Node) -> Rule | None:
    """The rule of this node, or None: then it is opaque."""
    rule = RULES.get(type(node.layer)) or _named(type(node.layer))
    return rule.choose(node) if rule is not None else None


def _named(cls: type) -> Rule | None:
    return NAMED.get(cls.__name__) if not cls.__module__.startswith(("keras.", "tf_keras.")) else None
