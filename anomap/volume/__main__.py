"""``python -m anomap.volume JOB``; see `anomap.volume.worker`."""

import sys

from anomap.volume.worker import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
