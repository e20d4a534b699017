"""Where a volume node lies. Here alone RAS meets LPS: the analysis knows LPS mm and indices (k, j, i) only."""

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS <-> LPS
_SWAP = np.eye(4)[[2, 1, 0, 3]]  # (k, j, i, 1) <-> (i, j, k, 1)


def toArray(matrix):
    """A ``vtkMatrix4x4`` as ``(4, 4)`` float64."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def toMatrix(array):
    """``(4, 4)`` numbers as a ``vtkMatrix4x4``."""
    matrix = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            matrix.SetElement(row, column, float(array[row, column]))
    return matrix


def voxelsOf(volumeNode):
    """The voxels ``(k, j, i)`` of a scalar volume without copying; they stay valid while the array lives."""
    image = volumeNode.GetImageData()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def affineOf(volumeNode):
    """``(4, 4)``: index (k, j, i, 1) -> LPS mm of the volume itself, without what it is transformed by."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return _FLIP @ toArray(matrix) @ _SWAP


def ijkToRasOf(affine):
    """The ``vtkMatrix4x4`` of an affine from `affineOf`."""
    return toMatrix(_FLIP @ affine @ _SWAP)


def toWorldOf(volumeNode):
    """The transform a volume is under.

    Returns:
        ``(4, 4)`` LPS mm -> LPS mm, and whether the transform is one that no matrix describes (then the identity).
    """
    parent = volumeNode.GetParentTransformNode()
    if parent is None:
        return np.eye(4), False
    if not parent.IsTransformToWorldLinear():
        return np.eye(4), True
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return _FLIP @ toArray(matrix) @ _FLIP, False


def worldRas(volumeNode, lps):
    """World RAS mm of a point in LPS mm of the volume itself, through linear and other transforms."""
    world = [0.0, 0.0, 0.0]
    volumeNode.TransformPointToWorld((-lps[0], -lps[1], lps[2]), world)
    return tuple(world)


def ownLps(volumeNode, ras):
    """LPS mm of the volume itself of a point in world RAS mm; the inverse of `worldRas`."""
    local = [0.0, 0.0, 0.0]
    volumeNode.TransformPointFromWorld(tuple(ras), local)
    return -local[0], -local[1], local[2]
