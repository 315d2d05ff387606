"""What is on the shelves."""

from __future__ import annotations

import json

import pytest

from deploypipe.catalogue import catalogue
from deploypipe.core.errors import UserError


def test_every_shelf_has_things_that_say_what_they_do():
    found = catalogue()
    assert {"stage", "pass", "source", "target", "metric", "criterion", "loss"} <= set(found)
    assert all(thing["does"] for things in found.values() for thing in things.values())
    assert found["stage"]["prune"]["options"]["amount"] == "float = 0.5"
    assert not any(name.startswith("_") for name in found["stage"])
    json.dumps(found)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("pass", "pass"),
        ("passes", "pass"),
        ("stages", "stage"),
        ("step", "stage"),
        ("steps", "stage"),
        ("criteria", "criterion"),
        ("losses", "loss"),
        ("metrics", "metric"),
    ],
)
def test_one_shelf_in_any_number(word, kind):
    assert list(catalogue(word)) == [kind]


def test_an_unknown_shelf_is_told():
    with pytest.raises(UserError, match="list: there is no shelf 'metrc', did you mean 'metric'?"):
        catalogue("metrc")


def test_the_name_of_a_thing_leads_to_its_shelf():
    with pytest.raises(
        UserError, match="'prune' is a stage, not a shelf. See: deploypipe list stage"
    ):
        catalogue("prune")
