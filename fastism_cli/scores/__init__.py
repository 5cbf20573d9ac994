"""Scores in memory, wherever they come from: targets, importance, tables, pictures."""
