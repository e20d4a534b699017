"""The clinic node in the container, as docs/clinic/docker-compose.yml starts it: it takes, analyses and stops."""

from __future__ import annotations

import json

import pytest

from tests.image.conftest import HARDENED, writable
from tests.service.clinic import eventually, free_port, storescu, wait_for_port

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]
# The network of this machine instead of none: the node listens on loopback, and the sender is outside.
OPTIONS = [option for option in HARDENED if not option.startswith("--network")] + ["--network=host"]


def test_the_node_analyses_what_it_is_sent_and_stops_in_order(engine, study, tmp_path):
    port, page = free_port(), free_port()
    settings, state = tmp_path / "node.toml", writable(tmp_path / "state")
    settings.write_text(
        f'state = "/var/lib/anomap"\n[listen]\ncalling = ["MODALITY"]\nport = {port}\n[analysis]\nsteps = 2\n'
        f"[work]\nquiet_s = 1.0\n[disk]\nmin_free_gb = 0.1\n[web]\nport = {page}\n"
    )
    mounts = [f"--volume={settings}:/etc/anomap/node.toml:ro", f"--volume={state}:/var/lib/anomap"]
    options = [*OPTIONS, *mounts, "--env=ANOMAP_SERVE_CONFIG=/etc/anomap/node.toml", "--no-healthcheck"]
    name = engine.start("serve", "/etc/anomap/node.toml", options=options)
    try:
        wait_for_port(port)
        assert storescu(port, "ANOMAP", study / "ct") == 0

        def jobs() -> list[dict]:
            said = engine.call("podman", "exec", name, "anomap", "status", "/etc/anomap/node.toml", "--json").stdout
            return json.loads(said)["jobs"]

        (job,) = eventually(lambda: [j for j in jobs() if j["state"] in ("done", "failed", "refused")], "a job", 200)
        assert (job["state"], job["images"], job["code"]) == ("done", 4, None)
        assert (state / "results" / "000001-1" / "result.json").is_file()
        health = engine.call("podman", "exec", name, "/opt/holoscan/entrypoint.sh", "health")
        assert health.stdout.strip() == "healthy"
        engine.call("podman", "stop", "--time=60", name)
        assert engine.call("podman", "inspect", "--format={{.State.ExitCode}}", name).stdout.strip() == "0"
        logs = engine.call("podman", "logs", name)
        assert "ZZID" not in logs.stdout + logs.stderr
    finally:
        engine.call("podman", "rm", "--force", name, check=False)
