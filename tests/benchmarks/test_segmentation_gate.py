"""The benchmark of the gate before a segmenter: truths move with the films, figures follow from their definitions."""

import numpy as np
import pytest

from anomap.training.data import Label, assemble, labelled_images, series_from_picture
from benchmarks.segmentation_cases import KNEE, LIMB, SOURCE, WHOLE, cases_of, changes
from benchmarks.segmentation_gate import CHANCE, OURS, P_VALUE, curves, dice, report
from tests.deploy_app.test_lung_rule import chest


def films(count, draw):
    label = {"category": "normal", "source": "drawn"}
    pictures = [(draw(n) * 255, f"film{n}") for n in range(count)]
    return assemble([
        labelled_images(
            series_from_picture(np.clip(picture, 0, 255), name), SOURCE, Label(name=name, patient=name, **label)
        )
        for picture, name in pictures
    ])  # fmt: skip


@pytest.fixture(scope="module")
def cases():
    chests = films(3, lambda n: chest(radii=(34 + n, 15 + n), left=(58, 36), right=(61, 92))[0])
    knees = films(2, lambda n: np.full((64, 64), 0.5) + (n + 1) * 0.1 * np.eye(64))
    return list(cases_of(chests, knees))


def test_every_kind_is_there_and_the_truth_moves_with_the_film(cases):
    whole = {case.patient: case for case in cases if case.kind == WHOLE}
    assert len(whole) == 3
    assert {case.kind for case in cases} == {WHOLE, KNEE, *changes()}
    moves = {"upside_down": lambda mask: mask[::-1], "mirrored": lambda mask: mask[:, ::-1], "rotated90": np.rot90}
    for case in cases:
        assert case.film.shape == case.truth.shape == (256, 256)
        if case.kind in (KNEE, LIMB):
            assert not case.truth.any()
        else:
            expected = moves.get(case.kind, lambda mask: mask)(whole[case.patient].truth)
            np.testing.assert_array_equal(case.truth, expected)


def test_harm_is_done_to_the_film_itself(cases):
    whole = {case.patient: case for case in cases if case.kind == WHOLE}
    for case in cases:
        if case.kind not in (WHOLE, KNEE):
            assert not np.allclose(case.film, whole[case.patient].film, atol=0.02), case.kind
        assert 0 <= case.film.min() <= case.film.max() <= 1


def test_dice_of_nothing_against_nothing_is_1():
    nothing, all_of_it = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    assert [dice(nothing, nothing), dice(all_of_it, nothing), dice(all_of_it, all_of_it)] == [1, 0, 1]
    half = all_of_it.copy()
    half[:2] = False
    assert dice(half, all_of_it) == pytest.approx(2 / 3)


def test_a_score_that_knows_the_risk_gains_and_chance_does_not():
    risks = np.random.default_rng(0).random(40)
    scores = {OURS: risks, CHANCE: np.zeros(40)}
    found = curves(scores, risks, [str(n) for n in range(40)])
    assert found[CHANCE]["gain_in_mean_dice"] == pytest.approx(0)
    assert found[OURS]["gain_in_mean_dice"] == pytest.approx(risks.mean() - np.sort(risks)[:36].mean())
    assert found[CHANCE]["gain_above_ci_95"][0] > 0


def test_accepted_and_rejected_cases_are_counted_apart(cases):
    quality = np.array([1.0 if case.kind == WHOLE else 0.5 for case in cases])
    p = np.array([0.5 if case.kind == WHOLE else 0.005 for case in cases])
    found = report(cases, quality, {OURS: 1 - p, P_VALUE: -p})
    verdicts = found["by_verdict_alpha_0.05_0.01"]
    assert (verdicts["pass"]["cases"], verdicts["pass"]["mean_dice"]) == (3, 1.0)
    assert verdicts["reject"]["drop_from_unchanged_films"] == 0.5
    assert verdicts["review"] == {"cases": 0}
    assert found["by_kind"][WHOLE] == {"films": 3, "mean_dice": 1.0, "pass": 3, "review": 0, "reject": 0}
