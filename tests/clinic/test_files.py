"""The files that sites are given agree with the code, with each other and with the page that explains them."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from anomap import __version__
from anomap.config import AnalyzeConfig
from anomap.service.settings import ServiceConfig, read_config
from tests.clinic.shipped import PASSWORD, SHIPPED
from tests.service.clinic import ROOT

PAGE = ROOT / "docs" / "clinic.md"
OURS = {"overwrite", "time_limit_s"}  # of an analysis: the node sets them
BLOCK = re.compile(r"(?<=```toml\n).*?(?=```)", re.DOTALL)


def uncommented(text: str) -> dict[str, Any]:
    """The settings with everything that is commented out switched on."""
    return tomllib.loads(re.sub(r"^# (?=\[|[a-z_]+ = )", "", text, flags=re.MULTILINE))


def orthanc() -> dict[str, Any]:
    """``orthanc.json`` without its comments."""
    text = re.sub(r'("(?:[^"\\]|\\.)*")|//[^\n]*', lambda match: match[1] or "", (SHIPPED / "orthanc.json").read_text())
    return dict(json.loads(text))


def tables(kind: Any, where: str = "") -> dict[str, Any]:
    """Every table of the settings with its class."""
    found = {where: kind}
    for name, hint in get_type_hints(kind).items():
        for inner in (hint, *get_args(hint)):
            if dataclasses.is_dataclass(inner):
                found |= tables(inner, f"{where}.{name}".strip("."))
    return found


def at(content: dict[str, Any], where: str) -> dict[str, Any]:
    for name in filter(None, where.split(".")):
        inner = content[name]
        content = inner[0] if isinstance(inner, list) else inner
    return content


def test_clinic_md_is_a_generated_page():
    text = PAGE.read_text()
    wanted = BLOCK.sub(lambda match: (SHIPPED / "node.toml").read_text(), text, count=1)
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(wanted)
    assert PAGE.read_text() == wanted, "run `make docs`"


def test_the_settings_in_clinic_md_can_be_read(tmp_path: Path):
    (block,) = BLOCK.findall(PAGE.read_text())
    (tmp_path / "node.toml").write_text(block)
    config = read_config(tmp_path / "node.toml")
    assert config.destination[0].password_file == tmp_path / "orthanc.password"


@pytest.mark.parametrize("where", sorted(tables(ServiceConfig)))
def test_node_toml_names_every_key_and_its_default(where: str):
    kind, text = tables(ServiceConfig)[where], (SHIPPED / "node.toml").read_text()
    named = at(uncommented(text), where)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    assert set(named) == set(fields) - (OURS if kind is AnalyzeConfig else set())
    try:
        stated = at(tomllib.loads(text), where)
    except KeyError:  # an optional table
        return
    yours = re.findall(r"^(\w+) = .*# yours", text, re.MULTILINE)
    for name, value in stated.items():
        if name not in yours and not isinstance(value, dict | list) and fields[name].default is not dataclasses.MISSING:
            assert value == fields[name].default, name
            assert type(value) is type(fields[name].default), name


def test_orthanc_and_node_know_each_other():
    archive, node = orthanc(), read_config(SHIPPED / "node.toml")
    (place,) = node.destination
    peer = archive["DicomModalities"]["anomap"]
    assert (peer["AET"], peer["Port"]) == (node.listen.ae_title, node.listen.port)
    assert archive["DicomAet"] in node.listen.calling
    assert (place.ae_title, place.port) == (archive["DicomAet"], archive["DicomPort"])
    assert place.url.endswith(f":{archive['HttpPort']}{archive['DicomWeb']['Root']}".rstrip("/"))
    assert archive["RegisteredUsers"] == {place.user: PASSWORD}
    assert not archive["OverwriteInstances"]
    route = (SHIPPED / "route.lua").read_text()
    assert f"local TITLE = '{peer['AET']}'" in route
    assert f'"{peer["AET"]}"' in (SHIPPED / "retry.sh").read_text()


def test_the_compose_file_agrees_with_the_files_it_mounts():
    """It can't be run without a Docker engine; this is what can be said without."""
    content = yaml.safe_load((SHIPPED / "docker-compose.yml").read_text())
    services, node = content["services"], read_config(SHIPPED / "compose.toml")
    anomap, archive, (place,) = services["anomap"], services["orthanc"], node.destination
    mounted = dict(volume.split(":")[:2] for service in services.values() for volume in service["volumes"])
    theirs = {"./users", "./tls.pem", "./state"}
    for source, target in mounted.items():
        assert source in content["volumes"] or source in theirs or (SHIPPED / source).is_file(), source
        assert target.startswith("/")
    assert mounted["./compose.toml"] == anomap["command"][-1]
    assert mounted["./state"] == str(node.state)
    assert anomap["environment"]["ANOMAP_SERVE_CONFIG"] == mounted["./compose.toml"]
    assert mounted["orthanc-db"] == orthanc()["StorageDirectory"] == orthanc()["IndexDirectory"]
    assert mounted["./route.lua"] in orthanc()["LuaScripts"]
    assert str(place.password_file) == "/run/secrets/" + anomap["secrets"][0]
    assert place.host in services
    assert place.url == f"http://{place.host}:{orthanc()['HttpPort']}/dicom-web"
    address = anomap["networks"]["dicom"]["ipv4_address"]
    assert archive["environment"]["ANOMAP_HOST"] == address
    assert "${ANOMAP_HOST:-" in orthanc()["DicomModalities"]["anomap"]["Host"]
    assert f"proxy_pass http://{address}:{node.web.port};" in (SHIPPED / "nginx.conf").read_text()
    assert (node.listen.address, node.web.address) == ("0.0.0.0", "0.0.0.0")
    (name,) = anomap["networks"]
    assert content["networks"][name]["internal"] is True
    assert (anomap["read_only"], anomap["cap_drop"], anomap["tmpfs"]) == (True, ["ALL"], ["/tmp"])
    assert anomap["security_opt"] == ["no-new-privileges:true"]
    assert "ports" not in anomap
    image = (ROOT / "Dockerfile").read_text()
    assert re.search(r"HEALTHCHECK .* CMD (.*)", image)[1] == json.dumps(anomap["healthcheck"]["test"][1:])
    assert anomap["image"] == f"anomap:{__version__}"
    for path in ("docs/clinic.md", "docs/clinic/docker-compose.yml"):
        assert re.search(r"USER (\d+):", image)[1] in (ROOT / path).read_text()
    for service in services.values():
        assert not re.match(r"[^/]*[.:][^/]*/", service["image"]), "sites choose their registry themselves"


def test_the_unit_is_one_that_systemd_reads(tmp_path: Path):
    unit = tmp_path / "anomap.service"
    text = (SHIPPED / "anomap.service").read_text()
    assert "/opt/anomap/bin/anomap serve /etc/anomap/node.toml" in text
    unit.write_text(text.replace("/opt/anomap/bin/anomap", "/bin/true"))
    assert shutil.which("systemd-analyze"), "systemd-analyze is missing: apt-get install systemd"
    run = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (run.returncode, [line for line in run.stderr.splitlines() if unit.name in line]) == (0, [])


def test_the_page_names_every_file_and_event():
    page = PAGE.read_text()
    for path in SHIPPED.iterdir():
        assert f"(clinic/{path.name})" in page, path.name
    for name in re.findall(r"\[[^\]]*\]\(([^)#]+)\)", page):
        assert name.startswith("http") or (PAGE.parent / name).exists(), name
    source = "".join(path.read_text() for path in (ROOT / "anomap" / "service").glob("*.py"))
    for event in re.findall(r"`((?:image|object|association|job)_[a-z]+)`", page):
        stem = event.split("_")[0]
        assert f'"{event}"' in source or f'f"{stem}_{{' in source, event
