"""Every row of the table of faults names a test that exists."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent


def rows() -> list[str]:
    text = (TESTS.parent / "docs" / "reference" / "faults.md").read_text()
    table = text.split("<!-- faults: begin -->")[1].split("<!-- faults: end -->")[0]
    return table.strip().splitlines()[2:]


def test_every_fault_is_backed_by_a_test():
    assert len(rows()) >= 15
    for row in rows():
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            (path,) = TESTS.rglob(file)
            tree = ast.parse(path.read_text())
            assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, row
