"""Scores of the variants of a VCF."""
