import numpy as np

from anomap.training.order import batches


def test_batches_visit_every_image_once_an_epoch_and_resume_in_place() -> None:
    numbered = np.arange(16, dtype=np.float32).reshape(16, 1, 1, 1)
    source = batches(numbered, 4, seed=0, start=0)
    drawn = [next(source).flatten().tolist() for _ in range(10)]
    assert sorted(number for batch in drawn[:4] for number in batch) == list(range(16))
    later = batches(numbered, 4, seed=0, start=6)
    assert [next(later).flatten().tolist() for _ in range(4)] == drawn[6:]


def test_fewer_images_than_a_batch_are_repeated() -> None:
    assert next(batches(np.zeros((3, 1, 4, 4), np.float32), 8, 0, 0)).shape == (8, 1, 4, 4)
