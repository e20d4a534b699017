"""The 3D Slicer extension on real MRML (slicer-core); the application itself is not here."""
