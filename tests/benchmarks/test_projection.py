from benchmarks.projection import _operations, random_networks


def test_operations_are_those_of_the_convolutions() -> None:
    """The last layers of a network counted by hand: 2 x 9 x I x O x pixels, twice (forward, and backward to w)."""
    base, double = (_operations(random_networks(32, width, "cpu").generator) for width in (128, 256))
    by_hand = sum(
        2 * 2 * 9 * a * b * pixels
        for a, b, pixels in (
            (32, 32, 16), (32, 16, 16), (16, 16, 64), (16, 8, 64), (8, 8, 256), (8, 4, 256), (4, 4, 1024)
        )
    )  # fmt: skip
    assert by_hand < base < 2 * by_hand  # smoothing, styles and colours are counted too
    assert 2 * base < double < 4 * base
