"""``python -m deploy_app -i IN -o OUT -m MODELS``."""

import sys

from deploy_app.supervisor import main

sys.exit(main())
