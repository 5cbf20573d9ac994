"""The result file: layout, writer and reader under one name."""

from fastism_cli.io.layout import HeadLayout, Layout
from fastism_cli.io.places import check_output
from fastism_cli.io.result import IsmFile, read_result
from fastism_cli.io.writer import ResultWriter

__all__ = ["HeadLayout", "IsmFile", "Layout", "ResultWriter", "check_output", "read_result"]
