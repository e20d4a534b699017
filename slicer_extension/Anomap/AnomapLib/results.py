"""A result in the scene: overlay, reconstruction, segmentation, table, one folder.

`build` is a generator that makes one node a step, so that the interface can breathe in between.
"""

from dataclasses import dataclass, field

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from .geometry import ijkToRasOf, worldRas

# Dark to light in even steps of lightness, as in anomap's previews: more is brighter.
HEAT = ((14, 14, 30), (52, 32, 98), (134, 46, 114), (226, 88, 74), (252, 172, 76), (255, 242, 190))
COLOURS = 256
REGION_COLOURS = ((1.0, 0.36, 0.27), (1.0, 0.75, 0.36), (0.38, 0.82, 1.0), (0.55, 0.9, 0.55), (0.85, 0.6, 1.0))
COLOR_NODE = "anomap heat"
# What the segments are, as in anomap's DICOM SEG: something spatial, not a finding.
TERMINOLOGY = (
    "Segmentation category and type - DICOM master list~SCT^309825002^Spatial and Relational Concept"
    "~99ANOMAP^ANM-R1^Unusual region~^^~Anatomic codes - DICOM master list~^^~^^"
)


@dataclass(frozen=True)
class Row:
    """A row of the results table.

    Attributes:
        kind: "region", "place" or "slice".
        number: Within its kind; regions and places by rank, slices in the order they were analysed.
        ras: Where to jump, world RAS mm.
        score: Of slices the highest window Wasserstein distance, of places the distance in features, of regions the one
            of these by which it stands out most.
        unit: Of the score.
        p: Of the score against the cohort; None without one.
        size: For people: "3.1 ml", "120 mm²" or "".
    """

    kind: str
    number: int
    ras: tuple
    score: float
    unit: str
    p: object
    size: str


@dataclass
class Outcome:
    """A result: its nodes, and what is said of it."""

    inputNode: object
    overlayNode: object = None
    reconstructionNode: object = None
    segmentationNode: object = None  # None without regions
    tableNode: object = None
    colorNode: object = None
    folderItem: int = 0
    verdict: str = ""
    pValue: object = None
    cohort: str = ""
    cohortSize: int = 0
    reasons: list = field(default_factory=list)
    warnings: list = field(default_factory=list)
    model: str = ""
    unit: str = ""
    threshold: float = 0.0
    maximum: float = 0.0
    rows: list = field(default_factory=list)
    dicomFiles: list = field(default_factory=list)

    @property
    def nodes(self):
        """Its own nodes: those that leave the scene with it."""
        own = (self.overlayNode, self.reconstructionNode, self.segmentationNode, self.tableNode)
        return [node for node in own if node is not None]


def gateText(outcome):
    """The gate in one line: verdict, p-value, what it was compared with."""
    p = "" if outcome.pValue is None else f" · p = {outcome.pValue:.3g}"
    against = f" · against {outcome.cohortSize} images: {outcome.cohort}" if outcome.cohortSize else " · no cohort"
    return f"{outcome.verdict}{p}{against}"


def build(scene, inputNode, affine, view, outcome):
    """Make the nodes of a result, one a step.

    Args:
        scene: Where to.
        inputNode: The volume that was analysed.
        affine: ``(4, 4)`` its index -> LPS mm when the analysis began.
        view: The result.
        outcome: Filled in as nodes come; whoever stops half-way removes ``outcome.nodes``.
    """
    content, name = view.content, inputNode.GetName()
    _tell(outcome, content, view.dicomFiles)
    outcome.colorNode = colorNode(scene)
    yield
    outcome.overlayNode = _volume(scene, f"{name} unusualness", inputNode, affine, view.heat)
    yield
    setHeatDisplay(outcome)
    yield
    outcome.reconstructionNode = _volume(scene, f"{name} reconstruction", inputNode, affine, view.reconstruction)
    low, high = content["grey_window"]
    outcome.reconstructionNode.GetDisplayNode().SetWindowLevelMinMax(low, high)
    yield
    if content["regions"]:
        outcome.segmentationNode = _segmentation(scene, f"{name} unusual regions", inputNode)
        yield
        for region, mask in zip(content["regions"], view.masks, strict=True):
            _addSegment(outcome.segmentationNode, region, mask, affine)
            yield
    outcome.rows = _rows(inputNode, content)
    outcome.tableNode = _table(scene, f"{name} scores", outcome)
    yield
    outcome.folderItem = _file(scene, f"anomap: {name}", outcome)


def setHeatDisplay(outcome):
    """Colours from threshold to maximum; what is below the threshold is transparent."""
    display = outcome.overlayNode.GetDisplayNode()
    top = max(outcome.maximum, outcome.threshold)
    display.SetAndObserveColorNodeID(outcome.colorNode.GetID())
    display.SetWindowLevelMinMax(0.0, top)
    display.SetThreshold(outcome.threshold, top + 1.0)
    display.SetApplyThreshold(True)


def colorNode(scene):
    """Anomap's colour table, made when it is not there: file-based tables are not in every build."""
    found = scene.GetFirstNodeByName(COLOR_NODE)
    if found is not None and found.IsA("vtkMRMLColorTableNode"):
        return found
    node = slicer.vtkMRMLColorTableNode()
    node.SetTypeToUser()
    node.SetName(COLOR_NODE)
    node.SetNumberOfColors(COLOURS)
    stops = np.linspace(0.0, 1.0, len(HEAT))
    for index, at in enumerate(np.linspace(0.0, 1.0, COLOURS)):
        red, green, blue = (float(np.interp(at, stops, [colour[c] for colour in HEAT])) / 255 for c in range(3))
        node.SetColor(index, f"{at:.2f}", red, green, blue, 1.0)
    return scene.AddNode(node)


def _tell(outcome, content, dicomFiles):
    outcome.verdict, outcome.pValue = content["verdict"], content["p_value"]
    outcome.cohort, outcome.cohortSize = content["cohort"]["description"], content["cohort"]["images"]
    outcome.reasons, outcome.warnings = list(content["reasons"]), list(content["warnings"])
    outcome.model, outcome.unit = content["model"], content["unit"]
    outcome.threshold, outcome.maximum = content["threshold"], content["maximum"]
    outcome.dicomFiles = list(dicomFiles)


def _place(node, inputNode, affine):
    """Put a node where the input lies, under the same transform."""
    if hasattr(node, "SetIJKToRASMatrix"):
        node.SetIJKToRASMatrix(ijkToRasOf(affine))
    node.SetAndObserveTransformNodeID(inputNode.GetTransformNodeID())


def _volume(scene, name, inputNode, affine, values):
    image = vtk.vtkImageData()
    image.SetDimensions(inputNode.GetImageData().GetDimensions())
    image.GetPointData().SetScalars(values)
    # The display comes first and with its own window: else the whole volume is counted for an automatic one.
    display = slicer.vtkMRMLScalarVolumeDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetInterpolate(False)
    display = scene.AddNode(display)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    _place(node, inputNode, affine)
    node.SetAndObserveDisplayNodeID(display.GetID())
    node.SetAndObserveImageData(image)
    return node


def _segmentation(scene, name, inputNode):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(inputNode)
    node.SetAndObserveTransformNodeID(inputNode.GetTransformNodeID())
    display = node.GetDisplayNode()
    display.SetVisibility2DFill(False)  # the overlay shows what is inside; an outline hides nothing
    display.SetVisibility3D(False)
    return node


def _addSegment(node, region, mask, affine):
    """A segment of the size of its region only: full-size masks take a second each."""
    k, j, i = region["start"]
    depth, height, width = mask.shape
    image = slicer.vtkOrientedImageData()
    image.SetExtent(i, i + width - 1, j, j + height - 1, k, k + depth - 1)
    image.SetImageToWorldMatrix(ijkToRasOf(affine))
    image.GetPointData().SetScalars(numpy_to_vtk(mask.ravel(), deep=True))
    segment = slicer.vtkSegment()
    segment.SetName(f"region {region['label']}")
    segment.SetColor(*REGION_COLOURS[(region["label"] - 1) % len(REGION_COLOURS)])
    segment.SetTag("TerminologyEntry", TERMINOLOGY)
    kind = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segment.AddRepresentation(kind, image)
    node.GetSegmentation().AddSegment(segment, f"region{region['label']}")


def _rows(inputNode, content):
    """Regions by rank, then the oddest places, then slices from the oddest."""

    def rows(kind, entries, size=lambda entry: ""):
        return [
            Row(
                kind,
                number,
                worldRas(inputNode, entry["place_lps_mm"]),
                entry["score"],
                entry.get("unit", content["unit"]),
                entry["p_value"],
                size(entry),
            )
            for number, entry in enumerate(entries, 1)
        ]

    slices = sorted(rows("slice", content["slices"]), key=lambda row: -row.score)
    return rows("region", content["regions"], _size) + rows("place", content.get("places", ())) + slices


def _size(entry):
    if entry["volume_ml"] is not None:
        return f"{entry['volume_ml']:.3g} ml"
    return f"{entry['area_mm2']:.3g} mm²" if "area_mm2" in entry else f"{entry['area_px']:.0f} px"


def _table(scene, name, outcome):
    """The rows as a table node: what is copied out of Slicer has its units with it."""
    columns = {
        "where": ("vtkStringArray", [f"{row.kind} {row.number}" for row in outcome.rows]),
        "score": ("vtkDoubleArray", [row.score for row in outcome.rows]),
        "unit": ("vtkStringArray", [row.unit for row in outcome.rows]),
        "p": ("vtkStringArray", ["" if row.p is None else f"{row.p:.3g}" for row in outcome.rows]),
        "size": ("vtkStringArray", [row.size for row in outcome.rows]),
        "R [mm]": ("vtkDoubleArray", [row.ras[0] for row in outcome.rows]),
        "A [mm]": ("vtkDoubleArray", [row.ras[1] for row in outcome.rows]),
        "S [mm]": ("vtkDoubleArray", [row.ras[2] for row in outcome.rows]),
    }
    table = vtk.vtkTable()
    for title, (kind, values) in columns.items():
        array = getattr(vtk, kind)()
        array.SetName(title)
        for value in values:
            array.InsertNextValue(round(value, 2) if kind == "vtkDoubleArray" else value)
        table.AddColumn(array)
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(name))
    node.SetAndObserveTable(table)
    node.SetLocked(True)
    return node


def _file(scene, name, outcome):
    """One folder beside the input, in the same study when it has one; the folder's item."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if hierarchy is None:
        return 0
    item = hierarchy.GetItemByDataNode(outcome.inputNode)
    parent = hierarchy.GetItemParent(item) if item else hierarchy.GetSceneItemID()
    folder = hierarchy.CreateFolderItem(parent, hierarchy.GenerateUniqueItemName(name))
    for node in outcome.nodes:
        item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(folder, node)
        hierarchy.SetItemParent(item, folder)
    return folder
