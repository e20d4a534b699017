# Slicer includes files of its own here.
