"""Damaged files of every kind against independent readers: ``python -m tests.slow.attack``."""
