"""The result file: layout, writer and reader under one name."""

from fastism_cli.io.layout import HeadLayout, Layout
from fastism_cli.io.result import IsmFile, read_result
from fastism_cli.io.writer import ResultWriter, check_output

__all__ = ["HeadLayout", "IsmFile", "Layout", "ResultWriter", "check_output", "read_result"]
