from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import pytest

from deploypipe.core import options
from deploypipe.core.errors import UserError
from deploypipe.core.shelf import ALL, OneOf, Shelf


class Shape:
    """What the nested options below are."""


SHAPES: Shelf[Shape] = Shelf("shape of test_options", "deploypipe.core", Shape)
ALL.pop(SHAPES.kind)


@dataclass(frozen=True)
class Disc(Shape):
    radius: float = 1.0

    def __post_init__(self) -> None:
        if self.radius <= 0:
            raise ValueError(f"radius must be positive, got {self.radius}")


@dataclass(frozen=True)
class Pair(Shape):
    first: Annotated[Shape, OneOf(SHAPES)] = field(default_factory=Disc)
    others: tuple[Annotated[Shape, OneOf(SHAPES)], ...] = ()


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Everything:
    count: int
    share: float = 0.5
    name: str = "x"
    flag: bool = False
    sizes: tuple[int, ...] = ()
    pair: tuple[float, float] = (0.0, 1.0)
    mode: Literal["fast", "exact"] = "fast"
    color: Color = Color.RED
    table: dict[str, float] = field(default_factory=dict)
    place: Path | None = None
    shape: Annotated[Shape, OneOf(SHAPES)] = field(default_factory=Disc)
    maybe: Annotated[Shape, OneOf(SHAPES)] | None = None


@pytest.fixture(autouse=True)
def shelf() -> Iterator[None]:
    SHAPES.add(Disc)
    SHAPES.add(Pair)
    yield
    for cls in (Disc, Pair):
        options.NAMES.pop(cls, None)


def build(**given: Any) -> Everything:
    return options.build(Everything, given, "steps[0].all")


def error(**given: Any) -> str:
    with pytest.raises(UserError) as raised:
        build(**{"count": 1, **given})
    return str(raised.value)


def test_defaults_are_the_constructors():
    assert build(count=3) == Everything(3)


def test_an_int_is_a_float():
    made = build(count=1, share=1, pair=[0, 2])
    assert (made.share, made.pair) == (1.0, (0.0, 2.0)) and isinstance(made.share, float)


def test_a_list_is_a_tuple():
    assert build(count=1, sizes=[1, 2]).sizes == (1, 2)


def test_a_name_is_an_enum_and_a_path():
    made = build(count=1, color="blue", place="a/b")
    assert made.color is Color.BLUE and made.place == Path("a/b")


def test_nothing_given_is_no_options():
    assert options.build(Disc, None, "disc") == Disc()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": "many"}, "steps[0].all.count: expected int, got 'many'."),
        ({"count": 1.5}, "steps[0].all.count: expected int, got 1.5."),
        ({"count": True}, "steps[0].all.count: expected int, got True."),
        ({"share": "half"}, "steps[0].all.share: expected float, got 'half'."),
        (
            {"share": float("nan")},
            "steps[0].all.share: input should be a finite number, got nan.",
        ),
        ({"share": None}, "steps[0].all.share: expected float, got None."),
        ({"name": 3}, "steps[0].all.name: expected str, got 3."),
        ({"flag": "yes"}, "steps[0].all.flag: expected bool, got 'yes'."),
        ({"sizes": 3}, "steps[0].all.sizes: expected list, got 3."),
        ({"sizes": [1, "x"]}, "steps[0].all.sizes[1]: expected int, got 'x'."),
        ({"pair": [1]}, "steps[0].all.pair[1]: required, but not given."),
        ({"table": [1]}, "steps[0].all.table: expected mapping, got [1]."),
        ({"table": {"a": "b"}}, "steps[0].all.table.a: expected float, got 'b'."),
        (
            {"mode": "fats"},
            "steps[0].all.mode: expected one of fast, exact, got 'fats'; did you mean 'fast'?",
        ),
        (
            {"color": "green"},
            "steps[0].all.color: expected one of red, blue, got 'green'; known: blue, red.",
        ),
        ({"cuont": 1}, "steps[0].all: unknown option 'cuont', did you mean 'count'?"),
        (
            {"shape": "disk"},
            "steps[0].all.shape: unknown shape of test_options 'disk', did you mean 'disc'?",
        ),
        (
            {"shape": {"disc": {"radius": 0}}},
            "steps[0].all.shape.disc: radius must be positive, got 0.0.",
        ),
        (
            {"shape": {"disc": {"radius": "x"}}},
            "steps[0].all.shape.disc.radius: expected float, got 'x'.",
        ),
        (
            {"shape": {"pair": {"others": ["disc", {"disc": {"radius": "x"}}]}}},
            "steps[0].all.shape.pair.others[1].disc.radius: expected float, got 'x'.",
        ),
        (
            {"maybe": {"disc": {"r": 1}}},
            "steps[0].all.maybe.disc: unknown option 'r', known: radius.",
        ),
    ],
)
def test_an_error_names_the_path_what_was_expected_and_what_came(given, message):
    assert error(**given) == message


def test_a_missing_option_is_named():
    with pytest.raises(UserError, match=r"^steps\[0\].all.count: required, but not given\.$"):
        build()


def test_a_misspelt_option_explains_the_missing_one():
    with pytest.raises(UserError, match="unknown option 'coutn', did you mean 'count'"):
        build(coutn=1)


def test_what_is_no_plain_data_is_told(tmp_path):
    loop: list[Any] = []
    loop.append(loop)
    assert error(sizes=loop) == "steps[0].all: not plain data: Circular reference detected."


def test_a_mistake_in_a_constructor_is_not_told_as_one_of_the_recipe(shelf):
    class Wrong(Shape):
        def __init__(self, size: int = 1) -> None:
            raise TypeError("ours")

    SHAPES.add(Wrong)
    with pytest.raises(TypeError, match="ours"):
        build(count=1, shape="wrong")
    options.NAMES.pop(SHAPES.added.pop("wrong"))


def test_a_plug_in_that_is_no_dataclass_is_told_by_its_options(shelf):
    class Square(Shape):
        def __init__(self, side: int = 1) -> None:
            self.side = side

    SHAPES.add(Square)
    made = build(count=1, shape={"square": {"side": 2}})
    assert options.values_of(made)["shape"] == {"square": {"side": 2}}
    options.NAMES.pop(SHAPES.added.pop("square"))


def test_a_plug_in_may_inherit_options_of_types_that_its_own_file_does_not_name():
    from deploypipe.stages.optimize import Optimize

    @dataclass(frozen=True)
    class Mine(Optimize):
        count: int = 1

    inherited = options.model_of(Optimize).model_fields
    assert set(options.model_of(Mine).model_fields) == {*inherited, "count"}


def test_a_path_without_a_beginning_is_joined_with_dots():
    class Inner(pydantic.BaseModel):
        size: int

    class Outer(pydantic.BaseModel):
        inner: Inner
        rows: list[Inner] = []

    with pytest.raises(UserError, match=r"^inner\.size: expected int, got 'x'\.$"):
        options.check(Outer, {"inner": {"size": "x"}}, "")
    with pytest.raises(UserError, match=r"^rows\[0\]\.size: required, but not given\.$"):
        options.check(Outer, {"inner": {"size": 1}, "rows": [{}]}, "")


def test_an_unknown_name_deep_inside_knows_its_neighbours():
    class Inner(pydantic.BaseModel, extra="forbid"):
        size: int = 1

    class Outer(pydantic.BaseModel):
        rows: list[Inner] = []

    with pytest.raises(UserError) as raised:
        options.check(Outer, {"rows": [{"sise": 1}]}, "data")
    assert str(raised.value) == "data.rows[0]: unknown option 'sise', did you mean 'size'?"


def test_a_range_error_is_told_at_its_path():
    with pytest.raises(UserError) as raised:
        options.build(Disc, {"radius": -1}, "disc")
    assert str(raised.value) == "disc: radius must be positive, got -1.0."


def test_an_error_that_is_ours_is_not_dressed_up():
    class Broken:
        def __init__(self, size: int = 1) -> None:
            raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        options.build(Broken, {}, "broken")


@pytest.mark.parametrize(
    "thing",
    [
        Everything(1),
        Everything(
            2, 1.0, "y", True, (1, 2), (3.0, 4.0), "exact", Color.BLUE, {"a": 1.0}, Path("p")
        ),
        Everything(3, shape=Disc(2.0), maybe=Pair(Disc(3.0), (Disc(4.0), Pair()))),
    ],
)
def test_the_options_of_a_thing_rebuild_it(thing):
    values = options.values_of(thing)
    again = options.build(Everything, values, "again")
    assert again == thing and options.values_of(again) == values


def test_the_options_of_every_stage_rebuild_it():
    from deploypipe.stages.optimize import Optimize

    stage = Optimize()
    values = options.values_of(stage)
    assert {"drop-dead-channels": {"round_to": 0, "prove": True}} in values["passes"]
    assert options.build(Optimize, values, "optimize") == stage


def test_the_name_of_a_class_is_that_of_its_file():
    from deploypipe.graph.passes.drop_unused import DropUnused

    assert options.name_of(DropUnused) == "drop-unused" and options.name_of(Disc) == "disc"


def test_options_are_described_for_a_person():
    lines = {line.name: (line.type, line.default) for line in options.describe(Everything)}
    assert lines["count"] == ("int", "required") and lines["share"] == ("float", "0.5")
    assert lines["shape"] == (SHAPES.kind, "disc(radius=1.0)")
    assert lines["maybe"] == (f"{SHAPES.kind} | null", "null")
    assert lines["sizes"] == ("list of int", "[]") and lines["pair"][0] == "list of float"
    assert lines["mode"] == ("fast | exact", "fast") and lines["table"] == ("mapping", "{}")
    assert lines["place"][0] == "path | null" and lines["name"] == ("str", "x")
