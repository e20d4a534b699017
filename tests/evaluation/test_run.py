from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anomap.calibration import COMBINED
from anomap.errors import AnomapError
from anomap.evaluation.baselines import BASELINES
from anomap.evaluation.run import Quality, QualityConfig, evaluate, needle_experiment, paired_rows
from anomap.evaluation.scores import score_images, subset
from anomap.evaluation.synthetic import inverted
from anomap.scoring import SCORES
from anomap.training.data import ImageSet
from anomap.types import Prepared, Reconstruction
from tests.evaluation.pictures import image_set, trunks
from tests.evaluation.test_scores import QUICK

CONFIG = QualityConfig(projection=QUICK, needles=6, resamples=200)


def renamed(images: ImageSet, prefix: str) -> ImageSet:
    return replace(images, names=tuple(prefix + name for name in images.names))


@pytest.fixture(scope="module")
def sets() -> tuple[ImageSet, ImageSet, list[ImageSet]]:
    train, normal = image_set(trunks(12, seed=1)), image_set(trunks(16, seed=2), images_each=2)
    swapped = renamed(replace(image_set(inverted(normal.prepared), "inverted"), patients=normal.patients), "inv-")
    foreign = image_set(trunks(4, seed=3), "foreign", source="another hospital")
    return train, normal, [swapped, foreign]


@pytest.fixture(scope="module")
def quality(toy_bundle, sets) -> Quality:
    train, normal, anomalous = sets
    origins = {f"inv-{name}": name for name in normal.names[:10]}
    return evaluate(toy_bundle, train, normal, anomalous, CONFIG, origins=origins)


def test_every_score_and_baseline_is_reported_for_every_category(quality: Quality) -> None:
    assert [row.category for row in quality.categories] == ["inverted", "foreign"]
    for row in quality.categories:
        assert set(row.separation) == {*SCORES, COMBINED, *BASELINES}
    assert (quality.normal_images, quality.normal_patients, quality.training_images) == (16, 8, 12)


def test_figures_are_those_of_the_scores(quality: Quality, toy_bundle, sets) -> None:
    _, normal, (swapped, _) = sets
    low, high = (score_images(toy_bundle, part.prepared, QUICK).per_image["wd_full"] for part in (normal, swapped))
    figures = quality.categories[0].separation["wd_full"]
    truth = np.repeat([0, 1], [len(low), len(high)])
    assert figures.auroc == pytest.approx(roc_auc_score(truth, np.concatenate([low, high])))
    assert quality.categories[0].pairs["wd_full"].raised == np.count_nonzero(high[:10] > low[:10])


def test_inverted_images_are_separated_even_by_a_mean_image(quality: Quality) -> None:
    for name in BASELINES:
        figures = quality.categories[0].separation[name]
        assert figures.auroc == 1.0
        assert figures.fpr_at_95_tpr == 0.0
        assert figures.interval is not None
        assert figures.interval.low <= figures.auroc <= figures.interval.high


def test_sources_patients_and_pairs_are_counted(quality: Quality) -> None:
    swapped, foreign = quality.categories
    assert swapped.same_sources
    assert not foreign.same_sources
    assert (swapped.images, swapped.patients) == (16, 8)
    assert swapped.pairs["wd_patch"].pairs == 10
    assert swapped.paired_patients == 5
    assert foreign.pairs == {}
    assert foreign.separation["wd_patch"].interval is None  # four patients


def test_a_cap_leaves_the_same_images_every_time(toy_bundle, sets) -> None:
    train, normal, anomalous = sets
    config = replace(CONFIG, cap=5, needles=2)
    once, again = (evaluate(toy_bundle, train, normal, anomalous[:1], config) for _ in range(2))
    assert once == again
    assert once.categories[0].images == 5


def test_pairs_need_their_origin_among_the_normal_images(sets) -> None:
    _, normal, (swapped, _) = sets
    rows, partners = paired_rows(swapped, normal, {swapped.names[3]: normal.names[7], swapped.names[4]: "elsewhere"})
    assert (rows.tolist(), partners.tolist()) == ([3], [7])
    rows, partners = paired_rows(swapped, normal, {})
    assert rows.size == partners.size == 0


def test_needles_go_into_one_image_of_each_patient(quality: Quality, toy_bundle, sets) -> None:
    _, normal, _ = sets
    found = quality.needles
    patients = dict(zip(normal.names, normal.patients, strict=True))
    assert found.test.pairs == len({patients[name] for name in found.images}) == 6
    assert 0 <= found.touched <= 6
    assert 0 < found.expected_touched < 6
    assert needle_experiment(toy_bundle, normal, CONFIG) == found


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
            steps=0,
            converged=np.ones(count, bool),
            seeds=np.zeros(count, np.int64),
        )

    monkeypatch.setattr("anomap.evaluation.scores.project", perfect)
    found = needle_experiment(toy_bundle, normal, CONFIG)
    assert found.test.raised == found.touched == found.test.pairs == 6
    assert found.test.p_value == pytest.approx(0.5**6)


def test_an_empty_category_is_refused(toy_bundle, sets) -> None:
    train, normal, (swapped, _) = sets
    with pytest.raises(AnomapError, match="without images"):
        evaluate(toy_bundle, train, normal, [subset(swapped, np.array([], np.int64))], CONFIG)
