"""A quality gate before an autosegmentation model: the model runs on what passed, and on nothing else."""
