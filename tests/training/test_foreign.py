"""Import end to end: the bundle renders what an independent reading of the papers renders from the file."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anomap import NOT_A_DIAGNOSIS, cli
from anomap.bundle import list_bundles, load_bundle, verify
from anomap.dicom.phantom import write_radiograph_phantom
from anomap.errors import AnomapError
from anomap.training.foreign import Foreign, import_pickle
from tests.weights.published import Shape, dump, judge, render, snapshot

SHAPES = {
    "32": Shape(),
    "64, grey in three channels": Shape(resolution=64, channels=3, layers=3, base=300, widest=9, seed=1, colour=0.01),
    "128, eight layers": Shape(resolution=128, layers=8, base=256, widest=4, z_dim=8, w_dim=12, seed=2),
    "512": Shape(resolution=512, channels=3, layers=8, base=1024, widest=4, z_dim=8, w_dim=12, seed=3),
}


def write(folder: Path, shape: Shape = SHAPES["32"], change=None) -> Foreign:
    made = snapshot(shape)
    if change is not None:
        change(made)
    (folder / "file.pkl").write_bytes(dump(made))
    return Foreign(file=folder / "file.pkl", name="theirs", models=folder / "models")


@pytest.mark.parametrize("name", SHAPES)
def test_pictures_and_logits_are_those_of_the_file(name, tmp_path: Path):
    shape, made = SHAPES[name], snapshot(SHAPES[name])
    import_pickle(write(tmp_path, shape))
    bundle = load_bundle(tmp_path / "models" / "theirs")
    z = np.random.default_rng(5).standard_normal((4, shape.z_dim))
    parameters = made["G_ema"].flat()
    for noise in ("const", "none"):
        wanted = np.stack([render(parameters, one, noise).mean(axis=0, keepdims=True) for one in z])
        pictures = bundle.generator(torch.from_numpy(z).float(), noise=noise).numpy()
        np.testing.assert_allclose(pictures, wanted, atol=1e-5)
    assert bundle.discriminator is not None
    logits = bundle.discriminator(torch.from_numpy(wanted).float())[:, 0].numpy()
    grey = np.repeat(wanted, shape.channels, axis=1)
    np.testing.assert_allclose(logits, judge(made["D"].flat(), grey), rtol=1e-4, atol=1e-4)


def test_a_bundle_is_whole_and_says_what_is_not_known(tmp_path: Path):
    wanted = replace(write(tmp_path), population="phantoms", body_part="CHEST")
    info = import_pickle(wanted)
    verify(info)
    assert info.network["channels"] == 1
    assert [one.name for one in list_bundles(wanted.models)] == ["theirs"]
    assert [path.name for path in wanted.models.iterdir()] == ["theirs"]
    folder = info.folder
    card = (folder / "docs" / "README.md").read_text()
    assert NOT_A_DIAGNOSIS in card
    assert info.sha256[:12] in card
    assert info.training["imported"]["file_sha256"] in card
    assert "$" not in card
    assert "non-commercial" in (folder / "LICENSE").read_text()
    assert (folder / "docs" / "samples.png").is_file()
    assert json.loads((folder / "configs" / "metadata.json").read_text())["copyright"] == "not stated in the file"


def test_a_refused_file_leaves_nothing_behind(tmp_path: Path):
    wanted = write(tmp_path)
    wanted.file.write_bytes(wanted.file.read_bytes()[:-100])
    with pytest.raises(AnomapError, match="E304"):
        import_pickle(wanted)
    assert not wanted.models.exists()


def test_an_existing_bundle_is_kept(tmp_path: Path):
    wanted = write(tmp_path)
    (wanted.models / "theirs").mkdir(parents=True)
    with pytest.raises(AnomapError, match="E201 a bundle named 'theirs' exists"):
        import_pickle(wanted)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a\nb", "x" * 100])
def test_a_name_is_no_path(name, tmp_path: Path):
    with pytest.raises(AnomapError, match="E200"):
        import_pickle(replace(write(tmp_path), name=name))


def test_coloured_pictures_are_refused(tmp_path: Path):
    with pytest.raises(AnomapError, match=r"E305 .*coloured"):
        import_pickle(write(tmp_path, Shape(channels=3, colour=0.5)))


def test_activations_that_were_cut_off_are_refused_and_others_are_not(tmp_path: Path):
    with pytest.raises(AnomapError, match=r"E305 .*cut off at 1 "):
        import_pickle(write(tmp_path, Shape(clamp=1.0)))
    import_pickle(write(tmp_path, Shape(clamp=256.0)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda made: made.update(D=None), "not in the file"),
        (lambda made: made.update(D=snapshot(Shape(base=64))["D"]), "left out: .* shape"),
    ],
)
def test_without_a_fitting_discriminator_there_is_none_and_the_card_says_why(change, reason, tmp_path: Path):
    info = import_pickle(write(tmp_path, change=change))
    assert load_bundle(info.folder).discriminator is None
    said = info.training["imported"]["discriminator"]
    assert re.search(reason, said)
    assert said in (info.folder / "docs" / "README.md").read_text()


def test_an_encoder_can_be_trained_on_generated_pictures(tmp_path: Path):
    lines: list[dict[str, float]] = []
    info = import_pickle(replace(write(tmp_path), encoder_kimg=0.064), lines.append)
    assert load_bundle(info.folder).encoder is not None
    assert lines[-1]["kimg"] == pytest.approx(0.064)


def test_the_command_imports_and_analyze_uses_the_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    wanted = write(tmp_path)
    words = ["models", "import", str(wanted.file), "--name", "theirs", "--models", str(wanted.models)]
    assert cli.main(words) == 0
    assert "UNCALIBRATED" in capsys.readouterr().out
    assert cli.main(["models", "verify", "--models", str(wanted.models)]) == 0
    assert cli.main(words) == 2
    assert "E201" in capsys.readouterr().err
    source = tmp_path / "study"
    write_radiograph_phantom(source, needle=True)
    for preset in ("fast", "paper"):
        out = tmp_path / preset
        options = ["--models", str(wanted.models), "--preset", preset, "--steps", "3"]
        assert cli.main(["analyze", str(source), str(out), *options]) == 0
        result = json.loads((out / "result.json").read_text())
        assert result["verdict"] == "UNCALIBRATED"


def test_the_command_refuses_a_hostile_file_with_its_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "bad.pkl").write_bytes(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.")
    assert cli.main(["models", "import", str(tmp_path / "bad.pkl"), "--name", "x", "--models", str(tmp_path)]) == 4
    error = capsys.readouterr().err
    assert "E304" in error
    assert "'posix.system'" in error
    assert len(error.strip().splitlines()) == 1
