"""What whole runs need: a genome and small models."""

import pytest

from tests.helpers.small_run import Folder, make_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Folder:
    return make_folder(tmp_path_factory.mktemp("small"))
