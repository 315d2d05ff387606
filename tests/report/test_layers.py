"""The comparison by layers, as a terminal shows it."""

from __future__ import annotations

import pytest
from rich.console import Console

from deploypipe.report.layers import SHOWN, layers_table


@pytest.fixture
def told():
    """So many rows that fit and that do not, of so many tensors -> what is shown."""

    def show(fit: int, unfit: int, of: int) -> str:
        row = {"op": "Conv", "sqnr_db": 30.0, "drop_db": 1.0, "max_abs_error": 0.1, "equal": False}
        rows = [{**row, "name": f"t{i}", "fits": i < fit} for i in range(fit + unfit)]
        found = {"layers": {"of": of, "rows": rows, "cliff": None, "cliff_db": 10}}
        console = Console(width=200)
        with console.capture() as said:
            console.print(layers_table(found))
        return said.get()

    return show


def test_all_layers_are_shown_where_they_fit(told):
    text = told(5, 0, 5)
    assert "5 of the 5 tensors of the reference compared; the worst first." in text
    assert text.count("Conv") == 5
    assert "more" not in text and "paired with nothing" not in text


def test_what_is_left_out_is_told(told):
    text = told(SHOWN + 5, 2, SHOWN + 10)
    assert text.count("Conv") == SHOWN
    assert f"{SHOWN + 5} of the {SHOWN + 10} tensors" in text
    assert f"the worst {SHOWN} are shown (--json tells all)" in text
    assert "2 more have other shapes" in text
    assert "3 are paired with nothing" in text
    assert "So few" not in text


def test_few_tensors_say_little(told):
    assert "So few say little of the rest" in told(2, 0, 20)
