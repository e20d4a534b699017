"""Images as a volume in the scene."""

from __future__ import annotations

from typing import Any

from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkImageData

from anomap.types import ImageSeries
from anomap.viewer.shared import part

INSTANCES = "DICOM.instanceUIDs"  # Slicer's own name for the attribute
CT_WINDOW = (350.0, 50.0)  # width and level in HU at the start: soft tissue
P_VALUE_WINDOW = (1.0, 0.5)


def add_volume(scene: Any, series: ImageSeries, name: str) -> Any:
    """Add a volume node that shows a series and knows its images.

    The voxels are those that anomap analyses (HU, or P-values from 0 to 1), so that the views show the same picture.

    Args:
        scene: Where it goes.
        series: The images.
        name: Of the node.
    """
    image = vtkImageData()
    image.SetDimensions(*reversed(series.pixels.shape))
    image.GetPointData().SetScalars(numpy_to_vtk(series.pixels.ravel(), deep=True))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetIJKToRASMatrix(part("geometry").ijkToRasOf(series.affine))
    node.SetAndObserveImageData(image)
    node.SetAttribute(INSTANCES, " ".join(series.frame_ids))
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(*(CT_WINDOW if series.unit == "HU" else P_VALUE_WINDOW))
    return node


def remove_volume(scene: Any, node: Any) -> None:
    """Take a volume out of the scene, with how it is displayed."""
    scene.RemoveNode(node.GetDisplayNode())
    scene.RemoveNode(node)
