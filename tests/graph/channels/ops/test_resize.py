from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,A,B] y) {{
    h = Conv(x, w, b)
    r = {op}
    y = Conv(r, v)}}"""


def arrays(b: tuple[int, ...] = (0, 0, 5, 0)) -> dict[str, np.ndarray]:
    """Channel 0 is live, 1 is zero, 2 the constant 5, 3 live and read by nobody."""
    w = np.ones((4, 2, 1, 1), np.float32)
    w[1:3] = 0
    v = np.ones((2, 4, 1, 1), np.float32)
    v[:, 3] = 0
    return {"w": w, "b": np.array(b, np.float32), "v": v}


SCALES = {"scales": np.array([1, 1, 2, 1.5], np.float32)}
MODES = [
    'mode = "nearest"',
    'mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"',
    'mode = "linear"',
    'mode = "linear", coordinate_transformation_mode = "align_corners"',
    'mode = "cubic"',
    'mode = "cubic", exclude_outside = 1',
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("opset", [11, 18])
def test_constants_pass_where_weights_add_up_to_one(cut, mode, opset):
    roi = {"roi": np.zeros(0, np.float32)} if opset == 11 else {}
    text = TEXT.format(op=f"Resize <{mode}> (h, {'roi' if roi else ''}, scales)")
    done = cut(text, opset=opset, exact=False, ort=True, **arrays(), **SCALES, **roi)
    assert done.gone["w"] == {0: [1, 2, 3]}
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [5, 5]


def test_sizes_are_written_anew(parse, evaluate, cut):
    text = TEXT.format(op="Resize (h, , , sizes)").replace("float[N,", "float[2,")
    done = cut(text, exact=False, **arrays(), sizes=np.array([2, 4, 6, 3]))
    assert done.gone["w"] == {0: [1, 2, 3]} and done.constant("Resize", 3) == [2, 1, 6, 3]


def test_sizes_and_scales_of_some_axes_alone(cut):
    text = TEXT.format(op="Resize <axes = [3, 2]> (h, , , sizes)")
    done = cut(text, exact=False, ort=True, **arrays(), sizes=np.array([6, 3]))
    assert done.gone["w"] == {0: [1, 2, 3]} and done.constant("Resize", 3) == [6, 3]
    text = TEXT.format(op="Resize <axes = [1, 2]> (h, , , sizes)")
    done = cut(text, exact=False, ort=True, **arrays(), sizes=np.array([4, 8]))
    assert done.gone["w"] == {0: [1, 2, 3]} and done.constant("Resize", 3) == [1, 8]
    text = TEXT.format(op="Resize <axes = [-1]> (h, , scales)")
    done = cut(text, exact=False, ort=True, **arrays(), scales=np.array([2], np.float32))
    assert done.gone["w"] == {0: [1, 2, 3]}


def test_sizes_that_are_computed_pin(cut):
    text = TEXT.format(op="Resize (h, , , q)")
    text = text.replace(
        "r =", "s = Shape(x)\nf = Slice(s, zero, one)\nq = Concat <axis = 0> (f, rest)\nr ="
    )
    done = cut(text, exact=False, **arrays(), zero=np.array([0]), one=np.array([1]),
               rest=np.array([4, 6, 3]))  # fmt: skip
    assert done.gone == {}


CROP = 'Resize <coordinate_transformation_mode = "tf_crop_and_resize", extrapolation_value = {out}>'


@pytest.mark.parametrize(("out", "gone"), [(0.0, [1, 3]), (5.0, [2, 3]), (9.0, [3])])
def test_what_lies_outside_a_crop_is_a_number_of_its_own(cut, out, gone):
    text = TEXT.format(op=CROP.format(out=out) + "(h, roi, scales)")
    roi = np.array([0, 0, -0.5, 0, 1, 1, 1, 1.5], np.float32)
    done = cut(text, exact=False, ort=True, roi=roi, **arrays(), **SCALES)
    assert done.gone["w"] == {0: gone}


def test_channels_that_are_cropped_stay(cut):
    text = TEXT.format(op=CROP.format(out=0.0) + "(h, roi, scales)")
    roi = np.array([0, 0.5, 0, 0, 1, 1, 1, 1], np.float32)
    done = cut(text, exact=False, ort=True, roi=roi, **arrays(), **SCALES)
    assert done.gone == {}


def test_a_crop_that_is_computed_or_scales_that_are_pin(cut):
    text = TEXT.format(op=CROP.format(out=0.0) + "(h, q, scales)")
    text = text.replace("4,4] x", "4,4] x, float[8] p", 1).replace("r =", "q = Abs(p)\nr =")
    text = text.replace("q = Abs(p)", "z = Sub(p, p)\nq = Add(z, roi)")
    roi = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)
    assert cut(text, exact=False, ort=True, roi=roi, **arrays(), **SCALES).gone == {}
    text = TEXT.format(op="Resize (h, , q)").replace("4,4] x", "4,4] x, float[4] p", 1)
    text = text.replace("r =", "z = Sub(p, p)\nq = Add(z, scales)\nr =")
    assert cut(text, exact=False, ort=True, **arrays(), **SCALES).gone == {}


def test_channels_that_are_stretched_stay(cut):
    text = TEXT.format(op='Resize <mode = "nearest"> (h, , scales)')
    weights = {**arrays(), "v": np.ones((2, 8, 1, 1), np.float32)}
    scales = np.array([1, 2, 1, 1], np.float32)
    assert cut(text, exact=False, scales=scales, **weights).gone == {}


@pytest.mark.parametrize("opset", [7, 9])
def test_the_old_upsample_passes_channels(cut, opset):
    call = "Upsample <scales = [1.0, 1.0, 2.0, 2.0]> (h)" if opset == 7 else "Upsample (h, scales)"
    more = {} if opset == 7 else {"scales": np.array([1, 1, 2, 2], np.float32)}
    text = TEXT.format(op=call).replace("A,B", "8,8").replace("y) {", "y) <float[N,4,8,8] r> {")
    done = cut(text, opset=opset, ort=True, exact=False, **arrays(), **more)
    assert done.gone["w"] == {0: [1, 2, 3]}


def test_the_resize_of_opset_10_passes_channels(cut):
    text = TEXT.format(op="Resize (h, scales)")
    done = cut(text, opset=10, ort=True, exact=False, **arrays(),
               scales=np.array([1, 1, 2, 2], np.float32))  # fmt: skip
    assert done.gone["w"] == {0: [1, 2, 3]}
