"""Settings: every default, and every way to be wrong is one line with E200."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from anomap.config import AnalyzeConfig
from anomap.errors import AnomapError
from anomap.service.settings import Destination, Disk, Listen, Web, Work, read_config
from tests.service.parts import destination, settings, write_settings


def _refused(folder: Path, text: str) -> str:
    with pytest.raises(AnomapError) as caught:
        settings(folder, text)
    assert caught.value.code == "E200"
    assert "\n" not in str(caught.value)
    return caught.value.message


def test_the_defaults_are_the_documented_ones(tmp_path):
    config = settings(tmp_path, destination(host="pacs", ae_title="PACS", confirm="none"))
    assert config.analysis == AnalyzeConfig()
    assert config.models is None
    assert asdict(config.listen) == {
        "calling": ("MODALITY",), "ae_title": "ANOMAP", "address": "127.0.0.1", "port": 11112, "max_associations": 10,
        "max_object_mb": 1024, "silence_s": 30.0, "tls": None,
    }  # fmt: skip
    assert asdict(config.work) == {
        "workers": 1, "quiet_s": 30.0, "time_limit_s": 1800.0, "memory_limit_gb": 0.0, "attempts": 4, "backoff_s": 30.0,
    }  # fmt: skip
    assert asdict(config.disk) == {"min_free_gb": 5.0, "keep_images_days": 7.0, "keep_results_days": 30.0}
    assert asdict(config.web) == {"address": "127.0.0.1", "port": 8080}
    assert asdict(Destination(name="a", host="h", ae_title="A", confirm="none")) == {
        "name": "a", "kind": "dicom", "confirm": "none", "host": "h", "port": 104, "ae_title": "A", "url": "",
        "user": "", "password_file": None, "token_file": None, "authority": None, "tls": None, "attempts": 60,
        "backoff_s": 30.0, "timeout_s": 30.0, "confirm_s": 120.0,
    }  # fmt: skip
    assert settings(tmp_path).destination == ()


def test_whole_numbers_may_stand_for_fractions_and_keep_their_type(tmp_path):
    work = settings(tmp_path, "[work]\nquiet_s = 5\nworkers = 2\n").work
    assert (work.quiet_s, type(work.quiet_s), work.workers) == (5.0, float, 2)


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    words = destination(url="http://x", kind="dicomweb", token_file="secrets/token", authority="/etc/ca.pem")
    config = settings(tmp_path, words)
    assert config.state == tmp_path / "state"
    assert config.destination[0].token_file == tmp_path / "secrets" / "token"
    assert config.destination[0].authority == Path("/etc/ca.pem")


def test_analysis_settings_are_read_as_strictly_as_the_others(tmp_path):
    text = '[analysis]\npreset = "paper"\nsteps = 3\nallow_gaps = true\noutputs = ["sr"]\n'
    wanted = AnalyzeConfig(preset="paper", steps=3, allow_gaps=True, outputs=("sr",))
    assert settings(tmp_path, text).analysis == wanted


def test_a_cohort_and_weights_of_scores_are_read(tmp_path):
    text = '[analysis]\ncohort = ["site/cohort.json"]\nscore_weights = [["wd_patch", 1], ["w_distance", 0.5]]\n'
    analysis = settings(tmp_path, text).analysis
    assert analysis.cohort == (str(tmp_path / "site" / "cohort.json"),)
    assert analysis.score_weights == (("wd_patch", 1.0), ("w_distance", 0.5))
    assert "lists of 2" in _refused(tmp_path, '[analysis]\nscore_weights = [["wd_patch"]]\n')


def test_archives_that_commit_may_call_back_and_no_other(tmp_path):
    commits = destination(name="a", host="h", ae_title="COMMITS", confirm="commitment")
    silent = destination(name="b", host="h", ae_title="SILENT", confirm="none")
    twice = destination(name="c", host="h", ae_title="MODALITY", confirm="commitment")
    assert settings(tmp_path, commits + silent + twice).callers == ("MODALITY", "COMMITS")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("silense_s = 3", "settings.listen: unknown 'silense_s'"),
        ('"a\\nb" = 3', "settings.listen: unknown"),
        ("[nonsense]", "settings: unknown 'nonsense'"),
        ("[analysis]\nstep = 3", "settings.analysis: unknown 'step'"),
        ('[analysis]\npreset = "slow"', "settings.analysis.preset must be one of fast, paper"),
        ('[analysis]\nallow_gaps = "yes"', "settings.analysis.allow_gaps must be of type bool"),
        ("[analysis]\nsteps = true", "settings.analysis.steps must be of type int"),
        ('[analysis]\noutputs = "sr"', "settings.analysis.outputs must be a list"),
        ("[analysis]\nsteps = -1", "steps must be at least 0"),
        ('port = "11112"', "settings.listen.port must be of type int"),
        ("port = true", "settings.listen.port must be of type int"),
        ("port = 4.5", "settings.listen.port must be of type int"),
        ("port = 0", "listen.port is between 1 and 65535"),
        ("port = 65536", "listen.port is between 1 and 65535"),
        ("silence_s = 0", "listen: limits are > 0"),
        ("silence_s = nan", "settings.listen.silence_s must be a finite number"),
        ("max_associations = 0", "listen: limits are > 0"),
        ("max_object_mb = 0", "listen: limits are > 0"),
        ('ae_title = ""', "an AE title has 1 to 16 plain characters"),
        ('ae_title = "SEVENTEEN_LETTERS"', "an AE title has 1 to 16 plain characters"),
        ('ae_title = "A\\\\B"', "an AE title has 1 to 16 plain characters"),
        ('tls = "yes"', "settings.listen.tls must be a table"),
        ('tls = { certificate = "a", key = "b" }', "settings.listen.tls: authority is missing"),
        ('tls = { certificate = "", key = "b", authority = "c" }', "settings.listen.tls.certificate must be a path"),
        ("[work]\nworkers = 0", "work: workers and attempts are at least 1"),
        ("[work]\nattempts = 0", "work: workers and attempts are at least 1"),
        ("[work]\nquiet_s = inf", "settings.work.quiet_s must be a finite number"),
        ("[work]\nquiet_s = 0", "work: times are > 0"),
        ("[work]\ntime_limit_s = -1", "work: times are > 0"),
        ("[work]\nbackoff_s = 0", "work: times are > 0"),
        ("[work]\nmemory_limit_gb = -1", "work: memory_limit_gb is >= 0"),
        ("[disk]\nmin_free_gb = -1", "disk: values are >= 0"),
        ("[disk]\nkeep_images_days = -1", "disk: values are >= 0"),
        ("[disk]\nkeep_results_days = nan", "settings.disk.keep_results_days must be a finite number"),
        ("[web]\nport = -1", "web.port is between 0 and 65535"),
        ("[web]\nport = 70000", "web.port is between 0 and 65535"),
        ("[destination]\nname = 'x'", "settings.destination must be a list"),
        ("[[destination]]\nhost = 'x'", "settings.destination: name is missing"),
        (destination(name="a b", host="h", ae_title="A"), "destination 'a b': the name is a plain word"),
        (destination(kind="ftp"), "settings.destination.kind must be one of dicom, dicomweb"),
        (destination(kind=["dicom"]), "settings.destination.kind must be one of dicom, dicomweb"),
        (destination(confirm="maybe"), "settings.destination.confirm must be one of commitment, qido, none"),
        (destination(ae_title="A", confirm="none"), "destination 'archive': kind dicom needs host"),
        (destination(host="h", confirm="none"), "an AE title has 1 to 16 plain characters"),
        (destination(host="h", ae_title="A", confirm="none", port=0), "destination 'archive': port is between"),
        (destination(host="h", ae_title="A"), "destination 'archive': url must be the DICOMweb root"),
        (destination(kind="dicomweb", confirm="none", url="ftp://x"), "url must be the DICOMweb root"),
        (destination(kind="dicomweb", confirm="commitment", url="http://x"), "commitment needs kind dicom"),
        (destination(host="h", ae_title="A", confirm="none", attempts=0), "destination 'archive': limits are > 0"),
        (destination(host="h", ae_title="A", confirm="none") * 2, "two destinations have the same name"),
        ("port = = 3", "the settings are no valid TOML"),
    ],
)
def test_every_mistake_is_named(text, says, tmp_path):
    assert says in _refused(tmp_path, text)


def test_what_is_needed_is_named(tmp_path):
    path = tmp_path / "node.toml"
    for text, says in [("", "settings: listen, state is missing"), ('state = "s"\n[listen]', "calling is missing")]:
        path.write_text(text)
        with pytest.raises(AnomapError, match=says):
            read_config(path)
    with pytest.raises(AnomapError, match="names no AE title"):
        read_config(write_settings(tmp_path, calling="[]"))
    with pytest.raises(AnomapError, match="must be of type str"):
        read_config(write_settings(tmp_path, calling="[3]"))


def test_a_file_that_cannot_be_read_is_no_traceback(tmp_path):
    with pytest.raises(AnomapError, match="E200"):
        read_config(tmp_path / "nowhere.toml")
    (tmp_path / "node.toml").write_bytes(b'state = "\xff"')
    with pytest.raises(AnomapError, match="E200"):
        read_config(tmp_path / "node.toml")


@pytest.mark.parametrize(
    "line", ['password = "hunter2"', 'token = ["hunter2"]', 'token_file = "hunter2', "user = hunter2"]
)
def test_no_error_repeats_what_may_be_a_secret(line, tmp_path):
    assert "hunter2" not in _refused(tmp_path, destination(host="h", ae_title="A", confirm="none") + line)


def test_the_tables_check_themselves_without_a_file():
    for wrong in (
        lambda: Listen(calling=()),
        lambda: Work(workers=0),
        lambda: Disk(min_free_gb=-1),
        lambda: Web(port=-1),
    ):
        with pytest.raises(AnomapError, match="E200"):
            wrong()
