"""Phantoms that several test files look at; nobody writes into them."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom


@pytest.fixture(scope="session")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CT of five slices."""
    folder = tmp_path_factory.mktemp("ct")
    write_ct_phantom(folder, slices=5, rows=64, columns=80)
    return folder


@pytest.fixture(scope="session")
def radiograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one radiograph."""
    folder = tmp_path_factory.mktemp("dx")
    write_radiograph_phantom(folder, rows=96, columns=80)
    return folder
