"""`anomap doctor`: finds what is there and what is not."""

from __future__ import annotations

import shutil

import pytest

from anomap import doctor
from anomap.bundle import WEIGHTS


def _by_name(models) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine(models)}


def test_a_complete_installation_is_healthy(toy_models):
    findings = _by_name(toy_models)
    assert [f for f in findings.values() if f.needed and not f.ok] == []
    assert {"torch", "pydicom", "accelerator", "JPEG lossless SV1", "RLE lossless", "free space"} <= set(findings)
    assert findings["model toy-ct"].ok


def test_a_changed_weight_file_is_found(toy_models, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(toy_models, models)
    path = models / "toy-ct" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    findings = _by_name(models)
    assert not findings["model toy-ct"].ok
    assert "E301" in findings["model toy-ct"].detail
    assert findings["model toy-radiograph"].ok


@pytest.mark.parametrize("exists", [True, False])
def test_missing_models_are_found(tmp_path, exists):
    findings = _by_name(tmp_path if exists else tmp_path / "nowhere")
    assert not findings["models"].ok


def test_a_missing_codec_is_found(monkeypatch, toy_models):
    import pydicom.pixels

    class Missing:
        is_available = False
        available_plugins = ()

    monkeypatch.setattr(pydicom.pixels, "get_decoder", lambda _: Missing())
    assert not _by_name(toy_models)["JPEG lossless SV1"].ok


def test_a_temporary_folder_that_cannot_be_written_is_found(monkeypatch, toy_models):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    finding = _by_name(toy_models)["temporary folder"]
    assert not finding.ok
    assert "space" in finding.detail
