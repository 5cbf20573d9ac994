"""How each Keras layer carries a change from its input to its output: a file per family, and the table of all.

The names here are what a rule for a custom layer needs.
"""

from fastism_cli.rules.base import EVERYWHERE, Decline, Form, Rule, Window
from fastism_cli.rules.layer_calls import per_position
from fastism_cli.rules.table import register_rule, rule_of

__all__ = ["EVERYWHERE", "Decline", "Form", "Rule", "Window", "per_position", "register_rule", "rule_of"]
