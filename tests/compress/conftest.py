"""Channel groups by hand, and a tiny network of two layers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from deploypipe.graph.channels.groups import ChannelGroup, ParameterSlices


@pytest.fixture
def group() -> Callable[..., ChannelGroup]:
    """A group whose channels are rows of one parameter."""

    def make(name: str, channels: int) -> ChannelGroup:
        rows = ParameterSlices(name, 0, np.arange(channels)[:, None])
        return ChannelGroup(name, channels, (rows,))

    return make
