import json
import subprocess
from pathlib import Path

import torch

from anomap.evaluation.machine import commit, describe_machine, processor_name, result_name


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_changed_source_tree_is_marked(tmp_path: Path) -> None:
    assert commit(tmp_path) == ""
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "one")
    head = git(tmp_path, "rev-parse", "--short", "HEAD")
    assert commit(tmp_path) == head
    (tmp_path / "b").write_text("a file git does not track")
    assert commit(tmp_path) == head
    (tmp_path / "a").write_text("2")
    assert commit(tmp_path) == head + "+"


def test_description_names_hardware_and_software(tmp_path: Path) -> None:
    found = json.loads(json.dumps(describe_machine("cpu", tmp_path)))
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["hardware"] == processor_name() != ""
    assert found["created"].endswith("+00:00")


def test_results_are_named_after_the_device(monkeypatch) -> None:
    assert result_name("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200 (141 GB)")
    assert result_name("cuda:0") == "nvidia-h200-141-gb"
