"""The layer rule of ARCHITECTURE.md: a file imports only from lower layers, and shells are known to nobody."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [
    {"types", "errors", "checks"},
    {"networks", "scoring", "calibration", "regions", "preprocessing.geometry"},
    {"projection", "preprocessing", "bundle", "dicom", "weights"},
    {
        "pipeline",
        "study",
        "training",
        "evaluation",
        "report",
        "output",
        "layout",
        "process",
        "config",
        "preview",
        "domain",
        "gate",
        "curation",
        "tables",
        "nifti",
        "source",
        "voxels",
        "style",
    },
    {
        "cli",
        "__main__",
        "console",
        "doctor",
        "service",
        "viewer",
        "volume",
        "evaluation.commands",
        "evaluation.report",
        "gate.commands",
        "curation.commands",
        "curation.report_commands",
    },
]
FORBIDDEN = {  # package -> modules it must never import
    "anomap": ("monai", "holoscan", "deploy_app", "slicer_extension"),
    "anomap/networks": ("pydicom", "highdicom"),
    "anomap/scoring": ("pydicom", "highdicom"),
    "anomap/projection": ("pydicom", "highdicom"),
    "anomap/preprocessing": ("torch", "highdicom"),
    "anomap/dicom": ("torch",),
    "anomap/weights": ("torch", "pickle"),
    "anomap/types.py": ("torch", "pydicom"),
}
MAX_LINES = 400
FILES = sorted((ROOT / "anomap").rglob("*.py"))


def imports(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def layer(module: str) -> int:
    """The layer of ``anomap.<module>``; the longest matching name wins."""
    parts = module.removeprefix("anomap").strip(".").split(".")
    for length in range(len(parts), 0, -1):
        for number, names in enumerate(LAYERS):
            if ".".join(parts[:length]) in names:
                return number
    return -1


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_from_its_own_layer_or_below(path: Path) -> None:
    own = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if own == "anomap":
        return
    assert layer(own) >= 0, f"{own} has no layer: add it to LAYERS and to ARCHITECTURE.md"
    too_high = {name for name in imports(path) if name.startswith("anomap.") and layer(name) > layer(own)}
    assert not too_high, f"layer {layer(own)} imports {sorted(too_high)}"


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_a_package_does_not_know_what_it_must_not(package: str) -> None:
    place = ROOT / package
    for path in [place] if place.suffix else place.rglob("*.py"):
        met = {name.split(".")[0] for name in imports(path)} & set(FORBIDDEN[package])
        assert not met, f"{path.relative_to(ROOT)} imports {sorted(met)}"


def test_only_the_clinic_node_knows_the_network() -> None:
    for path in FILES:
        met = {name.split(".")[0] for name in imports(path)} & {"pynetdicom", "dicomweb_client", "flask", "waitress"}
        assert not met or path.is_relative_to(ROOT / "anomap" / "service"), f"{path} imports {sorted(met)}"


def test_only_the_viewer_knows_slicer_and_the_browser() -> None:
    for path in FILES:
        met = {name.split(".")[0] for name in imports(path)} & {"slicer", "vtk", "vtkmodules", "trame", "trame_slicer"}
        assert not met or path.is_relative_to(ROOT / "anomap" / "viewer"), f"{path} imports {sorted(met)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_nothing_of_a_working_machine_is_in_the_source() -> None:
    for path in [*FILES, *(ROOT / "deploy_app").rglob("*.py")]:
        assert "/work/" not in path.read_text(), path
