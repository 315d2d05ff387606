"""The command ``validate``: two files compared in whole, in parts, or layer by layer."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from deploypipe import arguments
from deploypipe.arguments import Data, Json, Samples, TargetName, Threads
from deploypipe.core.errors import UserError
from deploypipe.shown import show as _show


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="REFERENCE CANDIDATE.onnx")],
    data: Data = None,
    samples: Samples = None,
    budget: Annotated[
        str | None, typer.Option(metavar="accuracy_drop=1.0,speedup=2,shrink=4")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="See: deploypipe list metric")] = None,
    seconds: Annotated[float, typer.Option(help="About how long to measure latency.")] = 40.0,
    batch: arguments.Batch = 1,
    records: Annotated[
        Path | None, typer.Option(help="Keep both models' answers, sample by sample (.npz).")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only part I of N; writes --records.")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="The files are the records of all parts: judge them.")
    ] = False,
    baseline: Annotated[
        Path | None, typer.Option(help="An earlier report or records; other samples: undecided.")
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Layer by layer; which in float would restore it.")
    ] = False,
    names: Annotated[
        Path | None, typer.Option(help="JSON: tensor of REFERENCE -> of CANDIDATE.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Of a torch REFERENCE, FILE.py:FUNCTION, for --layers.")
    ] = None,
    target: TargetName = "cpu",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Accuracy and latency of two ONNX files, and the verdict.

    With --layers, REFERENCE may be FILE.py:FUNCTION, which builds a torch module.
    """
    _check_layers(layers, budget, {"--weights": weights, "--names": names})
    limits, settings = arguments.budget(budget), arguments.settings(data, samples, target, threads)
    options: dict[str, Any] = {"metric": metric} if metric else {}
    if merge:
        _merged(files, as_json, budget=limits, baseline=baseline, metric=metric)
    reference, candidate = arguments.two(files, "REFERENCE CANDIDATE.onnx")
    if layers:
        _layers((reference, candidate), settings, names, weights, options, as_json)
    if shard is not None:
        part = {"shard": arguments.shard(shard), "out": arguments.needed(records, "--records")}
        _shard((reference, candidate), settings, part, options, as_json)
    from deploypipe import verbs

    options |= {"seconds": seconds, "batch": batch}
    kept = {"records": records, "baseline": baseline}
    found = verbs.validate_models(reference, candidate, settings, limits, options, **kept)
    _judged(found, candidate.name, as_json)


def _check_layers(layers: bool, budget: str | None, own: dict[str, object]) -> None:
    """Refuse what would be passed over: options of layers alone, and a budget beside them."""
    for option, value in own.items():
        if value is not None and not layers:
            raise UserError("only --layers takes it", where=option, then="Add --layers")
    if layers and budget is not None:
        then = "Ask for the verdict without --layers"
        raise UserError("layers are compared without a verdict", where="--budget", then=then)


def _merged(files: list[Path], as_json: bool, **how: Any) -> NoReturn:
    from deploypipe.shards import merge_records

    _judged(merge_records(files, **how), "merged records", as_json)


def _layers(
    files: tuple[Path, Path], settings: Any, names: Path | None, weights: Any, how: Any, json: bool
) -> NoReturn:
    from deploypipe.layers import compare_layer_files, read_names
    from deploypipe.report.layers import layers_table

    given = {"names": None if names is None else read_names(names), "weights": weights}
    found = compare_layer_files(*files, settings, options=how, **given)
    _show(found, json, layers_table)
    raise typer.Exit(0)


def _shard(
    files: tuple[Path, Path], settings: Any, part: dict[str, Any], options: Any, as_json: bool
) -> NoReturn:
    from deploypipe.report.tables import key_table
    from deploypipe.shards import record_shard

    _show(record_shard(*files, settings, options=options, **part), as_json, key_table)
    raise typer.Exit(0)


def _judged(found: Any, name: str, as_json: bool) -> NoReturn:
    from deploypipe.report import render_markdown, render_terminal

    now = datetime.now(UTC).isoformat(timespec="seconds")
    told = {"version": 1, "name": name, "created": now, "command": ["deploypipe", *sys.argv[1:]]}
    told |= found
    _show(told, as_json, render_terminal, summary=render_markdown)
    raise typer.Exit({"FAIL": 1, "UNDECIDED": 3}.get(found["verdict"]["outcome"], 0))
