"""Run the tests of this folder inside the real Slicer application.

    Slicer --no-splash --no-main-window --testing --additional-module-paths <folder of Anomap.py> \
        --python-script run_in_slicer.py

It fails closed: Slicer ends with status 0 only when tests were found and all of them passed. An import error, an
empty test file, a skip or an error in this script is a failure; ANOMAP_ALLOW_SKIPS=1 lets skips pass, for a Slicer in
which anomap isn't installed.
"""

import os
import sys
import traceback
import unittest
from pathlib import Path

PASSED, FAILED = 0, 1


def run(folder: Path) -> int:
    """Run ``test_*.py`` of a folder.

    Returns:
        The exit status.
    """
    loader = unittest.TestLoader()
    suite = loader.discover(str(folder), pattern="test_*.py")
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    if loader.errors or result.testsRun == 0:
        print("FAILED: a test file can't be imported, or holds no test", *loader.errors, sep="\n")  # noqa: T201
        return FAILED
    if result.skipped and not os.environ.get("ANOMAP_ALLOW_SKIPS"):
        print("FAILED: skipped", *(reason for _, reason in result.skipped), sep="\n")  # noqa: T201
        return FAILED
    return PASSED if result.wasSuccessful() else FAILED


def main() -> int:
    """Run the tests beside this file; whatever goes wrong is a failure."""
    try:
        return run(Path(__file__).parent)
    except BaseException:
        traceback.print_exc()
        return FAILED


if __name__ == "__main__":
    status = main()
    try:
        import slicer
    except ImportError:
        sys.exit(status or FAILED)  # outside Slicer nothing was tested
    slicer.util.exit(status)
