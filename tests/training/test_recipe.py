"""The whole command on a handful of pictures: images in, a bundle that analyses out."""

import csv
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomap import cli
from anomap.bundle import Bundle, load_bundle
from anomap.training.recipe import refresh_features


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder, rng = tmp_path / "data", np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for i in range(24):
        ramp = np.linspace(0, 255, 64)[:, None] * np.ones(64) + rng.normal(0, 20, (64, 64))
        Image.fromarray(np.clip(ramp, 0, 255).astype(np.uint8)).save(folder / f"{i}.png")
        rows.append({"file": f"{i}.png", "split": "val" if i < 8 else "train", "category": "normal", "patient": i // 2})
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


class Means(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.mean(dim=(1, 2, 3)), x.std(dim=(1, 2, 3))], dim=1)


def vars_of(bundle: Bundle) -> dict[str, object]:
    return {field.name: getattr(bundle.info, field.name) for field in fields(bundle.info)}


def test_one_command_makes_a_bundle_and_gives_it_again(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.jit.script(Means()).save(str(tmp_path / "means.pt"))
    words = ["train", "--data", str(pictures), "--name", "mine", "--preset", "cpu-64", "--fit", "squeeze"]
    words += ["--models", str(tmp_path / "models"), "--runs", str(tmp_path / "runs"), "--training.kimg", "0.016"]
    words += ["--training.batch", "8", "--training.network.resolution", "32", "--training.network.channel-base", "256"]
    words += ["--training.network.channel-max", "16", "--encoder.kimg", "0.016", "--encoder.batch", "8"]
    words += ["--training.choose", "best", "--features", str(tmp_path / "means.pt")]
    assert cli.main(words) == 0
    bundle = load_bundle(tmp_path / "models" / "mine")
    facts = bundle.info.training
    assert facts["settings"]["preset"] == "cpu-64"
    assert set(facts["frechet_pca"]) == set(facts["frechet_file"]) - {"sha256"}
    assert str(tmp_path) not in json.dumps(facts)
    assert "eta_minutes=0" in capsys.readouterr().out
    assert cli.main(words) == 0  # nothing left to train; packaged anew
    assert load_bundle(tmp_path / "models" / "mine").info.training["frechet_pca"] == facts["frechet_pca"]
    assert facts["augment_p"] >= 0
    info = refresh_features(tmp_path / "models" / "mine", pictures)  # nothing to refresh: the same numbers
    again = load_bundle(tmp_path / "models" / "mine")
    assert again.cohort.bundle_sha256 == info.sha256
    np.testing.assert_allclose(again.cohort.scores, bundle.cohort.scores, rtol=1e-3)
    assert {**vars_of(again), "files": None, "sha256": None} == {**vars_of(bundle), "files": None, "sha256": None}
    assert cli.main([*words, "--training.seed", "1"]) == 2
    assert "E311" in capsys.readouterr().err
    larger = {"--name": "larger", "--training.network.resolution": "64"}
    words = [larger.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    assert cli.main([*words, "--init", str(tmp_path / "models" / "mine")]) == 0
    facts = load_bundle(tmp_path / "models" / "larger").info.training
    assert facts["init"]["name"] == "mine"
    assert facts["init"]["kimg"] == 0.0  # 16 images
