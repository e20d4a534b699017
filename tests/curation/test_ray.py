"""Real Ray: actors that are killed, a driver that is killed, and a table that is the same in the end."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from anomap.curation import ray_engine as ray_module
from anomap.curation.ray_engine import ATTEMPTS, RayOptions, ray_engine
from anomap.curation.run import curate
from anomap.curation.settings import IMAGES_FILE
from anomap.errors import AnomapError
from tests.curation.conftest import CONFIG, KEY

ray = pytest.importorskip("ray")
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(900)  # starting Ray on a busy machine


@pytest.fixture
def cluster(monkeypatch):
    """Ray on this machine, of a size that doesn't depend on it."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("ANOMAP_TEST", mark := secrets.token_hex(8))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield mark
    ray.shutdown()


def table(out):
    return pq.read_table(out / IMAGES_FILE)


def workers(mark: str) -> list[int]:
    """Processes of this test's actors: what they inherited tells them from those of others."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            name, inherited = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if name.startswith(b"ray::ShardWorker") and f"ANOMAP_TEST={mark}".encode() in inherited:
            found.append(int(folder.name))
    return found


def test_an_actor_that_is_killed_costs_its_shard_a_second_try_and_nothing_else(
    cluster, whole, tree, toy_models, tmp_path
):
    def killing(task, numbers):
        for place, outcome in enumerate(ray_engine(RayOptions(workers=2))(task, numbers)):
            yield outcome
            if place == 0:
                for pid in workers(cluster):
                    os.kill(pid, signal.SIGKILL)

    seen = []
    curate(tree, tmp_path / "out", toy_models, CONFIG, seen.append, patient_key=KEY, engine=killing)
    numbers = Counter(event["number"] for event in seen if event["event"] == "shard")
    assert set(numbers.values()) == {1}
    assert table(tmp_path / "out").equals(table(whole))


def test_a_shard_that_always_ends_its_worker_is_given_up_after_the_others(
    cluster, tree, toy_models, tmp_path, monkeypatch
):
    class Deadly(ray_module.ShardWorker):
        def measure(self, number):
            if number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().measure(number)

    monkeypatch.setattr(ray_module, "ShardWorker", Deadly)
    seen = []
    with pytest.raises(AnomapError, match=f"{ATTEMPTS} times") as caught:
        curate(tree, tmp_path / "out", toy_models, CONFIG, seen.append, engine=ray_engine(RayOptions(workers=2)))
    assert caught.value.code == "E702"
    shards = [event for event in seen if event["event"] == "shard"]
    assert len(shards) == shards[0]["of"] - 1


def test_workers_without_room_are_not_waited_for_and_what_one_says_is_told(
    cluster, tree, toy_models, tmp_path, monkeypatch
):
    def run(options, out):
        curate(tree, tmp_path / out, toy_models, CONFIG, lambda _: None, engine=ray_engine(options))

    with pytest.raises(AnomapError) as caught:
        run(RayOptions(gpus=1000), "a")
    assert caught.value.code == "E401"
    run(RayOptions(workers=5), "b")  # two have room
    assert (tmp_path / "b" / IMAGES_FILE).exists()

    class Elsewhere(ray_module.ShardWorker):
        def __init__(self, task):
            super().__init__(replace(task, version="0.0.0"))

    monkeypatch.setattr(ray_module, "ShardWorker", Elsewhere)
    with pytest.raises(AnomapError) as caught:
        run(RayOptions(), "c")
    assert caught.value.code == "E700"


def test_volumes_give_the_table_that_they_give_in_this_process(cluster, curated_volumes, volumes, toy_models, tmp_path):
    engine = ray_engine(RayOptions(workers=2))
    curate(volumes, tmp_path / "out", toy_models, CONFIG, lambda _: None, patient_key=KEY, engine=engine)
    assert table(tmp_path / "out").equals(table(curated_volumes))


@pytest.fixture
def command(tree, toy_models, tmp_path) -> list[str]:
    key = tmp_path / "key"
    key.write_bytes(KEY)
    words = [sys.executable, "-m", "anomap", "curate", str(tree), "-o", str(tmp_path / "out")]
    words += ["--models", str(toy_models), "--shard-size", "4", "--steps", "2", "--device", "cpu"]
    return [*words, "--patient-key", str(key), "--engine", "ray", "--workers", "2", "--json"]


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ANOMAP_TEST": secrets.token_hex(8)}


def first_shard(process: subprocess.Popen[bytes]) -> None:
    """Wait until a shard is told of."""
    for line in process.stdout:
        if b'"shard"' in line:
            return


def goes_on(command, environment, out: Path, whole: Path) -> None:
    """The same command keeps the shards there are, all of them whole, and ends with the same table."""
    wait_for_end(environment["ANOMAP_TEST"])
    shards = out / "shards"
    kept = {path.name: path.stat().st_mtime_ns for path in shards.glob("[0-9]*.parquet")}
    assert kept
    for name in kept:
        assert pq.read_table(shards / name).equals(pq.read_table(whole / "shards" / name))
    assert not (out / IMAGES_FILE).exists()
    assert subprocess.run(command, env=environment, check=False, capture_output=True).returncode == 0
    found = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
    assert found.items() >= kept.items()
    assert found.keys() == {path.name for path in (whole / "shards").iterdir()}
    assert table(out).equals(table(whole))


def test_a_driver_that_is_killed_goes_on_where_it_was(command, environment, whole, tmp_path):
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, start_new_session=True) as process:
        first_shard(process)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    goes_on(command, environment, tmp_path / "out", whole)


@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["all, as a terminal does", "the driver alone"])
def test_a_stop_ends_with_130_and_the_same_command_goes_on(send, command, environment, whole, tmp_path):
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background may ignore it
    ) as process:
        first_shard(process)
        send(process.pid, signal.SIGINT)
        said, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert json.loads(said.splitlines()[-1])["code"] == "E403"
    assert errors.splitlines()[-1].startswith(b"E403")
    assert b"Traceback" not in errors
    goes_on(command, environment, tmp_path / "out", whole)


def wait_for_end(mark: str) -> None:
    """The actors of a driver that is gone end by themselves; what they are writing meanwhile appears whole."""
    deadline = time.monotonic() + 300
    while workers(mark) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not workers(mark)
