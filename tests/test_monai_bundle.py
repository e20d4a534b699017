"""Bundles pass MONAI's own checks: those that ship, one the recipe's functions write, one that was imported.

MONAI fetches its schema from the address in the metadata. Nothing may be fetched here: a schema lies where the fetched
one would be stored, so that `verify_metadata` finds it there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from anomap.bundle import METADATA, WEIGHTS, load_bundle, read_info
from anomap.networks.stylegan2 import NetworkConfig
from anomap.training.config import TrainConfig
from anomap.training.foreign import Foreign, import_pickle
from anomap.training.recipe import MONAI_SCHEMA, Recipe, inference_config, monai_metadata
from tests.toy import TOY
from tests.weights.published import Shape, dump, snapshot

ConfigParser = pytest.importorskip("monai.bundle").ConfigParser
scripts = pytest.importorskip("monai.bundle.scripts")
ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "tests" / "metadata.schema.json"
SHIPPED = sorted(path.name for path in (ROOT / "models").iterdir() if path.is_dir())


@pytest.fixture(params=[*SHIPPED, "recipe", "imported"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, toy_models: Path) -> Path:
    """Each kind of bundle."""
    if request.param == "imported":
        (tmp_path / "x.pkl").write_bytes(dump(snapshot(Shape())))
        return import_pickle(Foreign(file=tmp_path / "x.pkl", name="theirs", models=tmp_path)).folder
    if request.param == "recipe":  # what `package` writes around weights, which take long to train
        made = Path(shutil.copytree(toy_models / "toy-ct", tmp_path / "toy-ct"))
        recipe = Recipe(data=Path(), name="toy-ct", kind="ct", training=TrainConfig(network=TOY))
        path = made / METADATA
        path.write_text(json.dumps(json.loads(path.read_text()) | monai_metadata(recipe)))
        (made / "configs" / "inference.json").write_text(json.dumps(inference_config(recipe)))
        return made
    return ROOT / "models" / request.param


def test_the_metadata_pass_verify_metadata(folder: Path, tmp_path: Path):
    schema = tmp_path / "schema.json"
    shutil.copy(SCHEMA, schema)
    digest = hashlib.md5(schema.read_bytes()).hexdigest()
    scripts.verify_metadata(meta_file=str(folder / METADATA), filepath=str(schema), hash_val=digest)


def test_verify_metadata_can_fail(tmp_path: Path):
    schema, broken = tmp_path / "schema.json", tmp_path / "metadata.json"
    shutil.copy(SCHEMA, schema)
    metadata = json.loads((ROOT / "models" / SHIPPED[0] / METADATA).read_text())
    broken.write_text(json.dumps({k: v for k, v in metadata.items() if k != "network_data_format"}))
    with pytest.raises(ValueError, match="network_data_format"):
        scripts.verify_metadata(meta_file=str(broken), filepath=str(schema))


def test_the_network_takes_and_gives_what_the_metadata_say(folder: Path):
    """As `verify_net_in_out` does, which knows inputs named "image" alone; ours is a latent."""
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.read_meta(str(folder / METADATA))
    latent, pred = (parser.get(f"_meta_#network_data_format#{key}") for key in ("inputs#latent", "outputs#pred"))
    given = torch.rand(1, latent["num_channels"], *latent["spatial_shape"], dtype=getattr(torch, latent["dtype"]))
    picture = parser.get_parsed_content("network_def")(given)
    assert picture.shape == (1, pred["num_channels"], *pred["spatial_shape"])
    assert str(picture.dtype) == f"torch.{pred['dtype']}"


def test_the_config_renders_with_the_weights_of_the_bundle(folder: Path):
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser["bundle_root"] = str(folder)
    parser.get_parsed_content("initialize")
    network = parser.get_parsed_content("network_def")
    stored = load_file(folder / WEIGHTS)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, stored[f"generator.{name}"], rtol=0, atol=0)
    latent = torch.randn(2, network.config.z_dim)
    ours = load_bundle(folder).generator
    torch.testing.assert_close(network(latent, noise="const"), ours(latent, noise="const"))
    assert parser.get_parsed_content("samples").shape[0] == 4


def test_the_standard_files_are_there_and_the_own_metadata_agree(folder: Path):
    info = read_info(folder)  # hashes of weights and preprocessing hold
    metadata = json.loads((folder / METADATA).read_text())
    assert metadata["schema"] == MONAI_SCHEMA
    assert metadata["version"] == info.version
    assert metadata["network_data_format"]["inputs"]["latent"]["num_channels"] == info.network["z_dim"]
    assert metadata["network_data_format"]["outputs"]["pred"]["spatial_shape"] == [info.spec.size] * 2
    if folder.name != "toy-ct":
        assert (folder / "LICENSE").is_file()
        assert (folder / "docs" / "README.md").is_file()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_bundle_has_the_config_that_the_recipe_writes_today(name: str):
    info = read_info(ROOT / "models" / name)
    network = NetworkConfig(**info.network)
    recipe = Recipe(data=Path(), name=name, kind=info.spec.kind, training=TrainConfig(network=network))
    assert json.loads((info.folder / "configs" / "inference.json").read_text()) == inference_config(recipe)
    metadata = json.loads((info.folder / METADATA).read_text())
    assert metadata["network_data_format"] == monai_metadata(recipe)["network_data_format"]
