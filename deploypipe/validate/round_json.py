"""A round as JSON, to come back from the process that measured it."""

from __future__ import annotations

from collections.abc import Mapping

from deploypipe.core.files import Json
from deploypipe.validate.interleave import Block, Round, Start


def round_to_json(one: Round) -> dict[str, Json]:
    return {
        "opened": list(one.opened),
        "blocks": [
            {"order": list(block.order), "times": {k: list(v) for k, v in block.times.items()}}
            for block in one.blocks
        ],
        "starts": {label: vars(start) for label, start in one.starts.items()},
        "environments": {label: dict(told) for label, told in one.environments.items()},
    }


def round_from_json(told: Mapping[str, Json]) -> Round:
    blocks = (
        Block(tuple(block["order"]), {k: tuple(v) for k, v in block["times"].items()})
        for block in told["blocks"]
    )
    starts = {label: Start(**start) for label, start in told["starts"].items()}
    return Round(tuple(told["opened"]), tuple(blocks), starts, told["environments"])
