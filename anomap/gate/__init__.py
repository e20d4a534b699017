"""The quality gate: a site's calibration, its policy, the decision as an exit status, and the watch for drift."""
