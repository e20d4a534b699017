"""A child ends with all that it has started, whether it wants to or not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from anomap.process import end_group
from tests.deploy_app.test_supervisor import alive

CHILD = (
    "import signal, subprocess, sys, time\n"
    "{deaf}\n"
    "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print(other.pid, flush=True)\n"
    "time.sleep(60)\n"
)


@pytest.mark.parametrize(
    ("deaf", "status"), [("", -15), ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", -9)], ids=["polite", "deaf"]
)
def test_a_child_ends_with_what_it_has_started(deaf, status):
    command = [sys.executable, "-c", CHILD.format(deaf=deaf)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as child:
        other = int(child.stdout.readline())
        end_group(child, 1.0)
        assert child.returncode == status
    assert not alive(other)
    end_group(child, 1.0)  # one that is gone already is no error
