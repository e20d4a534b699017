"""Grey scales against pydicom's own look-up functions and the formulas of the standard."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from anomap.dicom.grayscale import (
    AIR_HU,
    apply_lut,
    apply_window,
    inverted,
    to_hounsfield,
    to_p_values,
    valid_pixels,
)
from anomap.errors import AnomapError

RNG = np.random.default_rng(0)


def header(bits: int = 12, *, signed: bool = False, **values: object) -> Dataset:
    dataset = Dataset()
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation, dataset.PhotometricInterpretation = int(signed), "MONOCHROME2"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def ct(**values: object) -> Dataset:
    return header(16, signed=True, **{"RescaleSlope": 1, "RescaleIntercept": -1024, **values})


def stored(bits: int = 12, *, signed: bool = False) -> np.ndarray:
    low = -(2 ** (bits - 1)) if signed else 0
    return RNG.integers(low, low + 2**bits, (24, 17)).astype(np.int16 if signed else np.uint16)


def lut(entries: list[int], first: int = 0, bits: int = 12) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", entries)
    return item


# -- HU


def test_hounsfield_units_are_slope_and_intercept():
    head, values = ct(RescaleSlope=0.5, RescaleIntercept=-900), stored(11)
    got, valid = to_hounsfield(values, head)
    np.testing.assert_allclose(got, apply_modality_lut(values, head), rtol=0, atol=1e-3)
    assert valid.all()
    assert got.dtype == np.float32


@pytest.mark.parametrize(
    "change",
    [
        {"RescaleSlope": 0},
        {"RescaleSlope": math.nan},
        {"RescaleIntercept": math.inf},
        {"RescaleSlope": None},
        {"RescaleIntercept": None},
        {"RescaleSlope": 1e9},
        {"RescaleType": "OD"},
        {"ModalityLUTSequence": [lut([0, 1])]},
    ],
)
def test_ct_without_a_scale_is_refused(change):
    with pytest.raises(AnomapError, match="E109"):
        to_hounsfield(stored(11), ct(**change))


def test_noise_from_a_damaged_stream_is_no_ct():
    with pytest.raises(AnomapError, match="E109"):
        to_hounsfield(stored(16, signed=True), ct())


@pytest.mark.parametrize("padding", [-2000, 2**16 - 2000])
def test_padding_is_masked_whatever_its_sign(padding):
    values = np.full((6, 6), 1000, np.int16)
    values[0], values[1, 1] = -2000, 1100
    head = ct()
    head.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)
    got, valid = to_hounsfield(values, head)
    assert (~valid == (values == -2000)).all()
    assert (got[0] == AIR_HU).all()
    assert got[1, 1] == 76


def test_a_padding_range_counts_from_either_end():
    values = np.arange(20, dtype=np.uint16).reshape(4, 5)
    for ends in [(3, 6), (6, 3)]:
        valid = valid_pixels(values, header(PixelPaddingValue=ends[0], PixelPaddingRangeLimit=ends[1]))
        assert values[~valid].tolist() == [3, 4, 5, 6]


def test_undeclared_corners_are_padding_but_streaks_inside_are_not():
    values = np.full((20, 20), 1024, np.int16)
    values[5:15, 5:15] = 1060
    values[:3, :3] = -1000
    values[9, 9] = -900
    got, valid = to_hounsfield(values, ct())
    assert not valid[:3, :3].any()
    assert valid.sum() == 400 - 9
    assert got[9, 9] == -1924


@pytest.mark.parametrize("values", [np.full((4, 4), 7), np.array([[5, 5], [9, 5]])])
def test_an_image_of_one_value_is_refused(values):
    for turn in (
        lambda: to_hounsfield(values, ct(PixelPaddingValue=9)),
        lambda: to_p_values(values, ct(PixelPaddingValue=9)),
    ):
        with pytest.raises(AnomapError, match="E108"):
            turn()


def test_an_image_of_padding_alone_is_refused():
    with pytest.raises(AnomapError, match="E108"):
        valid_pixels(np.full((4, 4), 9), header(PixelPaddingValue=9))


# -- P-values


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_window_equals_pydicom(function, bits):
    head = header(bits, WindowCenter=2**bits * 0.4, WindowWidth=2**bits * 0.3)
    if function:
        head.VOILUTFunction = function
    values = stored(bits)
    got, valid, warnings = to_p_values(values, head)
    np.testing.assert_allclose(got, apply_voi_lut(values, head) / (2**bits - 1), atol=1e-6)
    assert valid.all()
    assert warnings == ()


def test_a_signed_window_equals_pydicom():
    head, values = header(12, signed=True, WindowCenter=-100, WindowWidth=900), stored(12, signed=True)
    expected = (apply_voi_lut(values, head) + 2048) / 4095
    np.testing.assert_allclose(to_p_values(values, head)[0], expected, atol=1e-6)


def test_of_several_windows_the_first_counts():
    head = header(WindowCenter=[1000, 5], WindowWidth=[2000, 5])
    one = header(WindowCenter=1000, WindowWidth=2000)
    values = stored()
    np.testing.assert_array_equal(to_p_values(values, head)[0], to_p_values(values, one)[0])


@pytest.mark.parametrize("first", [0, 700, -50])
def test_a_voi_lut_equals_pydicom_and_beats_the_window(first):
    table = [int(v) for v in np.sort(RNG.integers(0, 2**12, 1500))]
    head = header(signed=first < 0, VOILUTSequence=[lut(table, first)], WindowCenter=5, WindowWidth=5)
    values = stored(signed=first < 0)
    np.testing.assert_allclose(to_p_values(values, head)[0], apply_voi_lut(values, head) / 4095, atol=1e-6)


def test_lut_data_may_be_bytes_of_either_order_or_packed():
    table = np.sort(RNG.integers(0, 256, 301))
    values = np.arange(-3.0, 320.0)
    plain, high = apply_lut(values, lut(table.tolist(), bits=8))
    assert high == 255
    for data, little in [(table.astype("<u2"), True), (table.astype(">u2"), False), (table.astype("u1"), True)]:
        item = lut(table.tolist(), bits=8)
        item.add_new("LUTData", "OW", data.tobytes() + b"\0" * (data.nbytes % 2))
        np.testing.assert_array_equal(apply_lut(values, item, little)[0], plain)


@pytest.mark.parametrize("item", [lut([1, 2, 3], bits=7), lut([1, 2, 5000]), Dataset()])
def test_a_lut_that_contradicts_itself_is_refused(item):
    with pytest.raises(AnomapError, match="E109"):
        apply_lut(np.arange(3.0), item)
    short = lut([1, 2, 3])
    short.LUTDescriptor = [4, 0, 12]
    with pytest.raises(AnomapError, match="E109"):
        apply_lut(np.arange(3.0), short)


def test_the_modality_lut_comes_before_the_window():
    head = header(ModalityLUTSequence=[lut(list(range(4095, -1, -1)))], WindowCenter=1000, WindowWidth=500)
    values = stored()
    plain = header(WindowCenter=1000, WindowWidth=500)
    np.testing.assert_array_equal(to_p_values(values, head)[0], to_p_values(4095 - values, plain)[0])


def test_without_a_window_the_whole_range_is_shown():
    values = np.array([[0, 4095], [1000, 2000]], np.uint16)
    np.testing.assert_allclose(to_p_values(values, header())[0], values / 4095, atol=1e-7)
    shifted = header(signed=True, RescaleSlope=2, RescaleIntercept=5)
    np.testing.assert_allclose(to_p_values(values.astype(int) - 2048, shifted)[0], values / 4095, atol=1e-7)


@pytest.mark.parametrize(
    "window", [(1000, 0), (1000, -5), (math.nan, 400), (90000, 10)], ids=["zero", "negative", "NaN", "elsewhere"]
)
def test_a_useless_window_is_ignored_with_a_warning(window):
    values = stored()
    got, _, warnings = to_p_values(values, header(WindowCenter=window[0], WindowWidth=window[1]))
    np.testing.assert_array_equal(got, to_p_values(values, header())[0])
    assert len(warnings) == 1


@pytest.mark.parametrize("slope", [0, math.nan, "abc"])
def test_a_radiograph_with_a_rescale_slope_that_is_none_is_refused(slope):
    head = header(RescaleIntercept=0)
    head["RescaleSlope"] = DataElement("RescaleSlope", "LO" if slope == "abc" else "DS", slope)
    with pytest.raises(AnomapError, match="E109"):
        to_p_values(stored(), head)


def test_padding_of_a_radiograph_is_black_and_not_valid():
    values = stored()
    values[0] = 4095
    head = header(PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=4095)
    got, valid, _ = to_p_values(values, head)
    assert not valid[0].any()
    assert (got[~valid] == 0).all()


@pytest.mark.parametrize(
    ("photometric", "shape", "expected", "doubts"),
    [
        ("MONOCHROME1", None, True, 0),
        ("MONOCHROME2", None, False, 0),
        ("MONOCHROME1", "INVERSE", True, 0),
        ("MONOCHROME2", "IDENTITY", False, 0),
        ("MONOCHROME2", "INVERSE", True, 1),
        ("MONOCHROME1", "IDENTITY", False, 1),
        ("MONOCHROME1", "LIN OD", True, 0),
    ],
)
def test_presentation_lut_shape_decides_before_photometric_interpretation(photometric, shape, expected, doubts):
    head = header(PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    assert inverted(head)[0] is expected
    assert len(inverted(head)[1]) == doubts


@given(
    bits=st.integers(8, 16),
    centre=st.floats(-1e5, 1e5),
    width=st.floats(2.0, 1e5),
    exact=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_monochrome1_looks_like_its_plain_twin(bits, centre, width, exact, seed):
    """The complement with the window mirrored: 2^n - c for LINEAR (it lies half a value off), else 2^n - 1 - c."""
    values = np.random.default_rng(seed).integers(0, 2**bits, (5, 7))
    values[0, :2] = 0, 2**bits - 1
    function = "LINEAR_EXACT" if exact else "LINEAR"
    plain = header(bits, WindowCenter=1, WindowWidth=1, VOILUTFunction=function)
    twin = header(bits, WindowCenter=1, WindowWidth=1, VOILUTFunction=function, PhotometricInterpretation="MONOCHROME1")
    plain["WindowCenter"]._value, plain["WindowWidth"]._value = centre, width
    twin["WindowCenter"]._value, twin["WindowWidth"]._value = 2**bits - exact - centre, width
    got, expected = to_p_values(2**bits - 1 - values, twin)[0], to_p_values(values, plain)[0]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_a_linear_window_of_width_one_is_a_threshold():
    np.testing.assert_array_equal(apply_window(np.array([9.0, 9.5, 9.6, 10.0]), 10.0, 1.0), [0, 0, 1, 1])


@pytest.mark.parametrize("function", ["CUBIC", ""])
def test_an_unknown_window_function_is_refused(function):
    with pytest.raises(AnomapError, match="E109"):
        apply_window(np.arange(3.0), 1.0, 2.0, function)
