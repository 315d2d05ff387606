"""Linear nodes with int8 weights in blocks: the runtime's MatMulNBits.

Each block of so many inputs of a channel has a scale of its own.  With accuracy level 4 the runtime
rounds the activations to 8 bits, block by block as it reads them, and multiplies integers; with any
other level it turns blocks of weights back into float32 on every run, which was measured to take
five to fifteen times as long (ONNX Runtime 1.31, AVX512-VNNI).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deploypipe.quantize.linears import bias_of, end_of, input_of, matrix_of
from deploypipe.quantize.rewriting import Rewriter
from deploypipe.quantize.units import Unit

BLOCK = 64
_ACCURACY = 4
_MIDDLE = 128
"""The zero point where none is stored."""


def in_blocks(
    rewriter: Rewriter, unit: Unit, block: int = BLOCK, zero_points: bool = False
) -> None:
    """The unit becomes a MatMulNBits.

    Args:
        block: Inputs that share a scale: 16, 32, 64, 128 or 256.
        zero_points: Store one for each block: finer where weights lean to one side.

    Raises:
        UserError: the weight holds a NaN or an infinity.
    """
    weight, bias = matrix_of(rewriter, unit), bias_of(rewriter, unit)
    inputs, outputs = weight.shape
    block = min(block, max(16, 1 << (inputs - 1).bit_length()))
    integers, scales, zeros = packed(weight, block, zero_points)
    end = end_of(rewriter, unit)
    node = rewriter.node(
        "MatMulNBits",
        [
            input_of(rewriter, unit),
            rewriter.constant("w", integers),
            rewriter.constant("s", scales),
            None if zeros is None else rewriter.constant("z", zeros),
            *([] if bias is None else [None, rewriter.constant("b", bias)]),
        ],
        domain="com.microsoft",
        K=inputs,
        N=outputs,
        bits=8,
        block_size=block,
        accuracy_level=_ACCURACY,
    )
    rewriter.replace(end, [node])


def packed(
    weight: npt.NDArray[np.float32], block: int, zero_points: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.uint8] | None]:
    """float32 [K, N] -> uint8 [N, blocks, block], float32 scales and uint8 zero points [N, blocks].

    Without zero points the middle is 128, and both sides reach as far.
    """
    inputs, outputs = weight.shape
    blocks = -(-inputs // block)
    padded = np.zeros((outputs, blocks * block), np.float32)
    padded[:, :inputs] = weight.T
    rows = padded.reshape(outputs, blocks, block)
    low, high = np.minimum(rows.min(2), 0), np.maximum(rows.max(2), 0)
    widths = (high - low) / 255 if zero_points else np.maximum(high, -low) / 127
    scales = np.where(widths > 0, widths, 1).astype(np.float32)
    zeros = np.rint(-low / scales) if zero_points else np.full(low.shape, float(_MIDDLE))
    integers = np.rint(rows / scales[..., None]) + zeros[..., None]
    kept = zeros.astype(np.uint8) if zero_points else None
    return np.clip(integers, 0, 255).astype(np.uint8), scales, kept
