from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anomap.calibration import COMBINED
from anomap.errors import AnomapError
from anomap.evaluation.baselines import BASELINES
from anomap.evaluation.data import EvaluationData
from anomap.evaluation.measure import ALL_SCORES, MAPS, OPPONENTS
from anomap.evaluation.run import Evaluation, EvaluationConfig, evaluate, paired_rows
from anomap.evaluation.scores import score_images, subset
from anomap.evaluation.synthetic import UNALTERED, kinds
from anomap.evaluation.synthetic.acquisition import inverted
from anomap.scoring import SCORES, SERIES_SCORES
from anomap.training.data import ImageSet
from anomap.types import Prepared, Reconstruction
from tests.evaluation.pictures import image_set, trunks
from tests.evaluation.test_scores import QUICK

CONFIG = EvaluationConfig(projection=QUICK, synthetic=True, synthetic_images=6, resamples=200)


def renamed(images: ImageSet, prefix: str) -> ImageSet:
    return replace(images, names=tuple(prefix + name for name in images.names))


@pytest.fixture(scope="module")
def sets() -> tuple[ImageSet, ImageSet, list[ImageSet]]:
    train, normal = image_set(trunks(12, seed=1)), image_set(trunks(16, seed=2), images_each=2)
    swapped = renamed(replace(image_set(inverted(normal.prepared), "inverted"), patients=normal.patients), "inv-")
    foreign = image_set(trunks(4, seed=3), "foreign", source="another hospital")
    return train, normal, [swapped, foreign]


def data_of(sets: tuple[ImageSet, ImageSet, list[ImageSet]], **changes: object) -> EvaluationData:
    train, normal, odd = sets
    origins = {f"inv-{name}": name for name in normal.names[:10]}
    data = EvaluationData(
        train=train, normal=normal, categories=tuple(odd), origins=origins, left_out={"E102": 3}, set_aside=False
    )
    return replace(data, **changes)


@pytest.fixture(scope="module")
def quality(toy_bundle, sets) -> Evaluation:
    return evaluate(toy_bundle, data_of(sets), replace(CONFIG, protocol="paper", seeds=2))


def test_every_score_and_baseline_is_reported_for_every_category(quality: Evaluation) -> None:
    assert [row.category for row in quality.categories] == ["inverted", "foreign"]
    for row in (*quality.categories, *quality.synthetic):
        assert set(row.separation) == set(ALL_SCORES) - set(SERIES_SCORES)
    assert {*SCORES, COMBINED, *OPPONENTS} < set(ALL_SCORES)
    assert (quality.normal_images, quality.normal_patients, quality.training_images) == (16, 8, 12)
    assert quality.left_out == {"E102": 3}
    assert quality.in_series == ()


def test_figures_are_those_of_the_scores(quality: Evaluation, toy_bundle, sets) -> None:
    _, normal, (swapped, _) = sets
    low, high = (score_images(toy_bundle, part.prepared, QUICK).per_image["wd_full"] for part in (normal, swapped))
    figures = quality.categories[0].separation["wd_full"]
    truth = np.repeat([0, 1], [len(low), len(high)])
    assert figures.auroc == pytest.approx(roc_auc_score(truth, np.concatenate([low, high])))
    assert figures.paper.images == 16
    assert figures.paper.mean == pytest.approx(figures.auroc)  # equally many images: every draw is all of them
    assert quality.categories[0].pairs["wd_full"].raised == np.count_nonzero(high[:10] > low[:10])


def test_inverted_images_are_separated_even_by_simple_baselines(quality: Evaluation) -> None:
    for name in BASELINES:
        assert quality.categories[0].separation[name].auroc > 0.9


def test_patients_sources_and_pairs_are_counted(quality: Evaluation) -> None:
    swapped, foreign = quality.categories
    assert (swapped.images, swapped.patients) == (16, 8)
    assert swapped.pairs["wd_patch"].pairs == 10
    assert swapped.paired_patients == 5
    assert (swapped.same_sources, foreign.same_sources) == (True, False)
    assert foreign.pairs == {}
    assert foreign.separation["wd_patch"].interval is None  # four patients
    assert 0 <= foreign.wd_mse_p <= 1


def test_every_kind_is_planted_into_one_image_of_each_patient(quality: Evaluation, toy_bundle) -> None:
    known = kinds(toy_bundle.spec)
    assert [row.kind for row in quality.synthetic] == list(known)
    for row in quality.synthetic:
        assert row.images == row.pairs["wd_patch"].pairs == 6
        assert (row.touched is not None) == known[row.kind].local
        assert set(row.maps) == (set(MAPS) - {"neighbours"} if known[row.kind].local else set())
        assert (row.regions is not None) == (known[row.kind].local or row.kind == UNALTERED)
        assert len(row.touched_by_seed) == (2 if known[row.kind].local else 0)
    needle = quality.synthetic[0]
    assert all(0 <= count <= 6 for count in needle.touched_by_seed)
    control = quality.synthetic[-1]
    assert control.kind == UNALTERED
    assert control.regions.hit == control.regions.first == 0
    assert control.pairs["wd_patch"].median_rise == pytest.approx(0, abs=1e-3)
    assert 0 <= needle.touched <= 6
    assert 0 <= needle.touched_by_place <= 6
    assert "feature" in needle.maps
    assert 0 <= needle.regions.first <= needle.regions.hit <= 6
    assert 0 < needle.expected_touched < 6


def test_what_is_shown_is_the_highest_and_the_lowest_of_every_set(quality: Evaluation) -> None:
    normal, inverted_set, foreign, *planted = quality.exhibits
    assert (normal.name, inverted_set.name, foreign.name) == ("normal", "inverted", "foreign")
    assert normal.curves == {}
    for shown in quality.exhibits:
        scores = [case.score for case in shown.cases]
        assert scores == sorted(scores, reverse=True)
    assert [case.role for case in foreign.cases] == ["highest"] * 3 + ["lowest"]  # four images, none shown twice
    assert all(case.mask is not None for case in planted[0].cases)
    curve = inverted_set.curves["wd_patch"]
    area = np.trapezoid(curve[:, 1], curve[:, 0])
    assert area == pytest.approx(quality.categories[0].separation["wd_patch"].auroc)


def test_a_cap_leaves_the_same_images_every_time(toy_bundle, sets) -> None:
    config = replace(CONFIG, cap=5, cap_normal=8, synthetic=False)
    once, again = (evaluate(toy_bundle, data_of(sets), config) for _ in range(2))
    assert once.categories == again.categories
    assert once.categories[0].images == 5
    assert once.normal_images == 8
    assert once.categories[0].wd_mse_p is None


def test_a_mean_is_formed_over_the_named_categories_only(toy_bundle, sets, quality: Evaluation) -> None:
    assert quality.mean is None
    config = replace(CONFIG, synthetic=False, mean=("foreign", "inverted"))
    found = evaluate(toy_bundle, data_of(sets), config)
    assert found.mean is not None
    assert set(found.mean.categories) == {"foreign", "inverted"}
    each = [row.separation["combined"].auroc for row in found.categories]
    assert found.mean.scores["combined"].auroc == pytest.approx(np.mean(each))
    with pytest.raises(AnomapError, match="E200 no category 'knee'"):
        evaluate(toy_bundle, data_of(sets), replace(config, mean=("knee",)))


def test_pairs_need_their_origin_among_the_normal_images(sets) -> None:
    _, normal, (swapped, _) = sets
    rows, partners = paired_rows(swapped, normal, {swapped.names[3]: normal.names[7], swapped.names[4]: "elsewhere"})
    assert (rows.tolist(), partners.tolist()) == ([3], [7])
    rows, partners = paired_rows(swapped, normal, {})
    assert rows.size == partners.size == 0


def test_a_perfect_reconstruction_finds_every_needle(toy_bundle, sets, monkeypatch) -> None:
    _, normal, _ = sets
    as_they_were = dict(zip(normal.names, normal.images, strict=True))

    def perfect(prepared: Prepared, *settings: object) -> Reconstruction:
        count = len(prepared.images)
        return Reconstruction(
            images=np.stack([as_they_were[name] for name in prepared.frame_ids]),
            w=np.zeros((count, 4), np.float32),
            loss=np.zeros(count),
            prior_distance=np.ones(count),
            feature_residual=np.full(count, np.nan),
            feature_distance=np.full(count, np.nan),
            feature_map=np.full((count, 1, 1), np.nan, np.float32),
            steps=0,
            converged=np.ones(count, bool),
            seeds=np.zeros(count, np.int64),
        )

    monkeypatch.setattr("anomap.evaluation.scores.project", perfect)
    found = evaluate(toy_bundle, data_of(sets, categories=()), CONFIG).synthetic[0]
    assert found.kind == "needle"
    assert found.pairs["wd_patch"].raised == found.touched == found.images == 6
    assert found.touched_by_place is None, "the model knows no places"
    assert "feature" not in found.maps
    assert found.pairs["wd_patch"].p_value == pytest.approx(0.5**6)
    assert found.maps["residual"].average_precision > 0.9
    assert found.maps["wd"].froc[0.25] == 1.0


def test_nothing_to_evaluate_and_empty_categories_are_refused(toy_bundle, sets) -> None:
    _, _, (swapped, _) = sets
    with pytest.raises(AnomapError, match="nothing to evaluate"):
        evaluate(toy_bundle, data_of(sets, categories=()), replace(CONFIG, synthetic=False))
    empty = subset(swapped, np.array([], np.int64))
    with pytest.raises(AnomapError, match="E200"):
        evaluate(toy_bundle, data_of(sets, categories=(replace(empty, categories=("none",)),)), CONFIG)
    for wrong in ({"cap": 0}, {"seeds": 0}, {"cap_normal": -1}, {"synthetic_images": 0}):
        with pytest.raises(AnomapError, match="at least 1"):
            replace(CONFIG, **wrong)
