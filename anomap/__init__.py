"""anomap: finds what does not belong in a medical image, and shows where.

Research software: not a diagnosis, not lesion detection.
"""

__version__ = "0.1.0"

NOT_A_DIAGNOSIS = "Research use only. Not a diagnosis, not lesion detection."
