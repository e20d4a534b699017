"""The gate as an operator in applications that Holoscan runs: one verdict, and one branch."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest

from anomap.cli import main
from tests.deploy_app.gated import run, write_cohort, write_patient

APPLICATION = """
import json, os, sys
from pathlib import Path
from monai.deploy.core import Application, Operator
from anomap.config import AnalyzeConfig
from anomap.gate.policy import policy_for
from deploy_app.operators import QualityGateOperator, fork

class Crashing(QualityGateOperator):
    def compute(self, op_input, op_output, context):
        exec(self.fragment.words["crash"])

class Branch(Operator):
    def setup(self, spec):
        spec.input("verdict")
    def compute(self, op_input, op_output, context):
        verdict = op_input.receive("verdict")
        said = {"case": self.fragment.words["name"], "branch": self.name, "verdict": verdict.verdict,
                "status": int(verdict.status), "passed": verdict.passed, "images": len(verdict.series)}
        print("BRANCH", json.dumps(said), flush=True)

class App(Application):
    def compose(self):
        words = self.words
        paths = {name: Path(words[name]) for name in ("source", "output", "models")}
        config = AnalyzeConfig(steps=1, outputs=("sr",), cohort=tuple(words["cohort"]))
        policy = policy_for(Path(words["policy"]) if words["policy"] else None, config)
        kind = Crashing if "crash" in words else QualityGateOperator
        gate = kind(self, name="gate", config=config, policy=policy, **paths)
        fork(self, gate, passed=Branch(self, name="passed"), withheld=Branch(self, name="withheld"))

for words in json.loads(sys.argv[1]):
    App.words = words
    try:
        App([sys.executable]).run()
    except RuntimeError as error:
        print("RAISED", words["name"], flush=True)
"""
ODD = {"review": "alpha_review = 0.999\n", "reject": "alpha_review = 0.999\nalpha_reject = 0.999\n"}
STATUS = {
    "pass": 0, "review": 10, "reject": 20, "uncalibrated": 10, "no input": 3, "two patients": 3, "no models": 4,
    "no cohort file": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def site(toy_models, tmp_path_factory) -> dict[str, object]:
    """Everything a gate needs, in an order to pass."""
    folder = tmp_path_factory.mktemp("site")
    cohort = write_cohort(folder, toy_models)
    source = str(folder / "normals" / "p03")
    return {"source": source, "models": str(toy_models), "cohort": [str(cohort)], "policy": ""}


def said(cases: list[dict], output: Path) -> tuple[list[dict], str]:
    """What the branches say, in one process for all cases, and all that was printed."""
    words = [{**case, "output": str(output / str(case["name"]))} for case in cases]
    done = run("-c", APPLICATION, json.dumps(words))
    lines = [line for line in done.stdout.splitlines() if line.startswith("BRANCH")]
    return [json.loads(line.removeprefix("BRANCH ")) for line in lines], done.stdout + done.stderr


@pytest.fixture(scope="module")
def judged(site, tmp_path_factory) -> tuple[dict[str, dict], Path]:
    """Case -> what its branch says; where the gate has published."""
    folder = tmp_path_factory.mktemp("judged")
    for name, text in ODD.items():
        (folder / f"{name}.toml").write_text(text)
    for number in (3, 4):
        write_patient(folder / "two" / str(number), number)
    (folder / "empty").mkdir()
    cases = [
        {"name": "pass"},
        *({"name": name, "policy": str(folder / f"{name}.toml")} for name in ODD),
        {"name": "uncalibrated", "cohort": []},
        {"name": "no input", "source": str(folder / "empty")},
        {"name": "two patients", "source": str(folder / "two")},
        {"name": "no models", "models": str(folder / "nowhere")},
        {"name": "no cohort file", "cohort": [str(folder / "nowhere.json")]},
    ]
    spoken, log = said([{**site, **case} for case in cases], folder / "out")
    assert len(spoken) == len(cases), log[-3000:]
    return {entry["case"]: entry for entry in spoken}, folder


def gate_codes(folder: Path) -> list[str]:
    """The gate's answer in each report."""
    items = (item for path in folder.rglob("sr.dcm") for item in pydicom.dcmread(path).iterall())
    coded = [item.value[0] for item in items if item.keyword == "ConceptCodeSequence"]
    return [code.CodeMeaning for code in coded if code.CodeValue in ("ANM-G2", "ANM-G3", "ANM-G4")]


@pytest.mark.parametrize("case", STATUS)
def test_nothing_but_a_pass_takes_the_branch_of_a_pass(case, judged):
    entry = judged[0][case]
    assert entry["status"] == STATUS[case]
    assert (entry["branch"], entry["passed"]) == (("passed", True) if case == "pass" else ("withheld", False))


@pytest.mark.parametrize("case", ["pass", "review", "reject"])
def test_branch_result_report_and_exit_status_of_the_command_say_the_same(case, judged, site, tmp_path):
    entry, published = judged[0][case], judged[1] / "out" / case
    content = json.loads((published / "result.json").read_text())
    assert (content["verdict"], content["gate"]["exit_status"]) == (entry["verdict"], entry["status"])
    assert (entry["verdict"], entry["images"]) == (case.upper(), 1)
    assert gate_codes(published) == [case.capitalize()]
    policy = ["--policy", str(judged[1] / f"{case}.toml")] if case in ODD else []
    words = ["gate", site["source"], "--out", str(tmp_path / "cli"), "--models", site["models"], *policy]
    assert main([*words, "--cohort", *site["cohort"], "--steps", "1", "--outputs", "sr"]) == entry["status"]
    assert gate_codes(tmp_path / "cli") == [case.capitalize()]


@pytest.mark.parametrize("case", ["uncalibrated", "no models"])
def test_a_failure_is_published_too(case, judged):
    content = json.loads((judged[1] / "out" / case / "result.json").read_text())
    assert content["status"] == ("failed" if case == "no models" else "complete")
    assert gate_codes(judged[1] / "out" / case) == ([] if case == "no models" else ["Review"])


CRASHES = {
    "exception": "raise RuntimeError('ZZ')",
    "silent": "pass",  # Holoscan itself ends with 0 when nothing is emitted
    "killed": "os.kill(os.getpid(), 9)",
}


def test_a_gate_that_crashes_or_says_nothing_reaches_no_segmenter(site, tmp_path):
    spoken, log = said([{**site, "name": name, "crash": crash} for name, crash in CRASHES.items()], tmp_path)
    assert spoken == []
    assert "RAISED exception" in log


def test_a_gate_without_a_verdict_of_its_own_has_not_passed(site, tmp_path):
    emits = "op_output.emit(self.verdict, 'verdict')"  # without having judged
    (entry,), _ = said([{**site, "name": "early", "crash": emits}], tmp_path)
    assert (entry["branch"], entry["status"], entry["passed"]) == ("withheld", 4, False)
