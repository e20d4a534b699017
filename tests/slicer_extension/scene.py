"""What Slicer's application supplies and the slicer-core package does not: a scene with its logics, and slice views.

Only real MRML, module logics and displayable managers; nothing is imitated. Views render off-screen.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkOSOpenGLRenderWindow")  # no display, no GPU

import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
)
_MODULES = {
    "Volumes": slicer.vtkSlicerVolumesLogic,
    "Segmentations": slicer.vtkSlicerSegmentationsModuleLogic,
    "SubjectHierarchy": slicer.vtkSlicerSubjectHierarchyModuleLogic,
}


class Application:
    """A scene and the logics that its nodes ask for."""

    def __init__(self) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.logic = slicer.vtkSlicerApplicationLogic()
        self.logic.SetMRMLScene(self.scene)
        colors = slicer.vtkMRMLColorLogic()
        self._modules = {"Colors": colors, **{name: made() for name, made in _MODULES.items()}}
        for name, module in self._modules.items():
            module.SetMRMLApplicationLogic(self.logic)
            module.SetMRMLScene(self.scene)
            self.logic.SetModuleLogic(name, module)
        colors.AddDefaultColorNodes()
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        self.logic.SetSliceLogics(vtk.vtkCollection())
        self.logic.SetViewLogics(vtk.vtkCollection())
        slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance().SetMRMLApplicationLogic(self.logic)

    def volume(self, voxels: np.ndarray, ijk_to_ras: np.ndarray, name: str = "volume") -> Any:
        """A scalar volume of voxels ``(k, j, i)``."""
        image = vtk.vtkImageData()
        image.SetDimensions(voxels.shape[::-1])
        image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(voxels).ravel(), deep=True))
        node = self.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        matrix = vtk.vtkMatrix4x4()
        matrix.DeepCopy(ijk_to_ras.ravel())
        node.SetIJKToRASMatrix(matrix)
        node.SetAndObserveImageData(image)
        node.CreateDefaultDisplayNodes()
        return node


class SliceView:
    """One slice view that renders into memory.

    Args:
        application: For its scene.
        orientation: "Axial", "Sagittal" or "Coronal".
        size: Side in pixels.
    """

    def __init__(self, application: Application, orientation: str = "Axial", size: int = 384) -> None:
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application.logic)
        self.logic.SetMRMLScene(application.scene)
        application.logic.GetSliceLogics().AddItem(self.logic)
        self.node = self.logic.AddSliceNode(orientation)
        self.node.SetOrientation(orientation)
        self.composite = self.logic.GetSliceCompositeNode()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetSize(size, size)
        self._renderer = vtk.vtkRenderer()
        self._renderer.GetActiveCamera().ParallelProjectionOn()
        self.window.AddRenderer(self._renderer)
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(self._mapper)
        self._actor.GetProperty().SetDisplayLocationToBackground()
        self._renderer.AddActor2D(self._actor)
        interactor = vtk.vtkRenderWindowInteractor()
        interactor.SetRenderWindow(self.window)
        self._interactor = interactor
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.SetRenderer(self._renderer)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        for name in _MANAGERS:
            if hasattr(slicer, name) and not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self._group.Initialize(factory, self._renderer)
        self._group.SetMRMLDisplayableNode(self.node)
        self.node.SetDimensions(size, size, 1)

    def fit(self) -> None:
        """Show the whole background volume."""
        self.logic.FitSliceToAll()

    def picture(self) -> np.ndarray:
        """What the view shows now, ``(rows, columns, 3)`` uint8."""
        self.logic.UpdatePipeline()
        self._mapper.SetInputConnection(self.logic.GetImageDataConnection())
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        columns, rows, _ = image.GetDimensions()
        pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)
        return pixels[::-1, :, :3].copy()

    def pixel_of(self, ras: tuple[float, float, float]) -> tuple[int, int]:
        """(row, column) of the picture where a point lies."""
        matrix = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), matrix)
        x, y, _, _ = matrix.MultiplyPoint((*ras, 1.0))
        return round(self.window.GetSize()[1] - 1 - y), round(x)
