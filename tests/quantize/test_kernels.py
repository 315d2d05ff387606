from __future__ import annotations

import numpy as np

from deploypipe.quantize.kernels import numbered, numbering, time_kernels

X = np.ones((1, 1, 2, 2), np.float32)


def test_fused_kernels_cover_the_nodes_that_they_compute(conv_net, target) -> None:
    numbers = numbering(conv_net)
    (kernels,) = time_kernels([(conv_net, numbers)], [{"x": X}], target, runs=3)
    covered = [set(kernel.nodes) for kernel in kernels if kernel.nodes]
    assert set().union(*covered) == set(range(5))
    conv = next(nodes for nodes in covered if 1 in nodes)  # the Relu's kernel is the convolution's
    assert 0 in conv
    assert all(kernel.microseconds >= 0 for kernel in kernels)


def test_a_quantized_model_is_numbered_by_its_float_model(conv_net, quantize, target) -> None:
    numbers = numbering(conv_net)
    int8 = quantize(conv_net, X).model
    models = [(conv_net, numbers), (int8, numbers)]
    _, kernels = time_kernels(models, [{"x": X}], target, runs=3)
    ops = {op: nodes for op, nodes in ((kernel.op, kernel.nodes) for kernel in kernels) if nodes}
    assert 0 in ops["QLinearConv"]
    assert 4 in ops["QGemm"]


def test_the_model_keeps_its_names(conv_net) -> None:
    names = [node.name for node in conv_net.graph]
    copy = numbered(conv_net, numbering(conv_net))
    assert [node.name for node in conv_net.graph] == names
    assert [node.name for node in copy.graph] == [f"n{i}." for i in range(5)]
