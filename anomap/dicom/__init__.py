"""DICOM in and DICOM out."""
