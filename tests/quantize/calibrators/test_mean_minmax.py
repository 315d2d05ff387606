from __future__ import annotations

import numpy as np

from deploypipe.quantize import CALIBRATORS
from deploypipe.quantize.histogram import Counter, Range


def test_it_covers_the_average_sample() -> None:
    counter = Counter()
    for low, high in ((-1, 2), (-3, 4), (-2, 90)):
        counter.add(np.float32([low, 0, high]))
    assert CALIBRATORS.build("mean-minmax").range(counter.histogram()) == Range(-2, 32)
