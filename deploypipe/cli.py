"""The command line: words in, one call of the library, text or JSON and an exit code out.

Heavy things are imported inside the commands: ``--help`` loads neither torch nor onnxruntime, and
is plain text, because typer's rich one takes another 0.1 s.
"""

from __future__ import annotations

import errno
import json
import shlex
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from deploypipe import arguments, report_command, validate_command
from deploypipe.arguments import (
    Data,
    Json,
    Model,
    Output,
    Recipe,
    Samples,
    Set,
    TargetName,
    Threads,
)
from deploypipe.core.errors import DeploypipeError, EnvironmentLacks, UserError
from deploypipe.shown import show as _show

app = typer.Typer(
    name="deploypipe",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A trained torch model in, a smaller, faster and verified ONNX bundle out.",
    epilog="Exit codes: 0 pass, 1 a gate failed, 2 a mistake in what was given, 3 undecided, "
    "4 something is missing on this machine, 5 integrity.",
)

STOPPED = 130
"""Exit code after Ctrl-C, as a shell gives it."""

OUR_BUG = 70
"""Exit code beside a traceback; 1 would look like a failed gate."""

UsageError: Any = typer.BadParameter.__mro__[1]
"""click's error for a wrong command line; which click, is typer's choice."""


def main() -> None:
    """Entry point: errors become one paragraph and an exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    as_json = "--json" in sys.argv[1:]
    try:
        _check_once(sys.argv[1:])
        code = app(sys.argv[1:] or ["--help"], prog_name="deploypipe", standalone_mode=False)
    except DeploypipeError as error:
        _fail(str(error), error.exit_code, as_json)
    except UsageError as error:
        _fail(_usage(error), 2, as_json)
    except (KeyboardInterrupt, typer.Abort):
        code = STOPPED
    except Exception as error:
        if lack := _used_up(error):
            _fail(lack, EnvironmentLacks.exit_code, as_json)
        traceback.print_exc()
        _fail("That is a bug of deploypipe: please report what stands above.", OUR_BUG, as_json)
    if code == STOPPED:
        kept = "Finished stages are kept: run the same command to go on."
        whole = "What was not finished is as it was before."
        _fail(f"Stopped. {kept if sys.argv[1:2] == ['run'] else whole}", code, as_json)
    sys.exit(code or 0)


def _check_once(words: list[str]) -> None:
    """Refuse an option that comes twice and takes one value: the first would be passed over."""
    commands = getattr(typer.main.get_command(app), "commands", {})
    command = commands.get(words[0]) if words else None
    options = [one for one in command.params if one.opts[0].startswith("-")] if command else []
    for option in options:
        given = [word for word in words if word.partition("=")[0] in option.opts]
        if len(given) > 1 and not option.multiple and not option.is_flag:
            raise UserError("it comes twice, and takes one value", where=option.opts[0])


def _used_up(error: Exception) -> str | None:
    """What to tell where the machine has run out of something, in whatever file or array."""
    if isinstance(error, MemoryError):
        return "There is not enough memory. deploypipe plan RECIPE tells what a run takes."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = error.filename or tempfile.gettempdir()
        return (
            f"{place}: no space is left on the device. Free some, or set TMPDIR to another folder."
        )
    return None


def _terminated(number: int, _: object) -> NoReturn:
    """As any end: processes and folders that were made go with this one."""
    sys.exit(128 + number)


def _usage(error: Any) -> str:
    """A wrong word of the command line, with where to look the right ones up."""
    command = error.ctx.command_path if error.ctx else "deploypipe"
    told = error.format_message().rstrip(".")
    return f"{told}{'' if told.endswith('?') else '.'} See: {command} --help"


def _fail(text: str, code: int, as_json: bool) -> None:
    print(f"deploypipe: {text}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": text, "exit_code": code}))
    sys.exit(code)


@app.command()
def run(
    recipe: Recipe,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: out/NAME")] = None,
    changes: Set = None,
    as_json: Json = False,
) -> None:
    """Recipe in, verified bundle and report out; resumable."""
    from deploypipe.core.progress import for_stderr
    from deploypipe.pipeline import plan as make_plan
    from deploypipe.pipeline import run as run_plan
    from deploypipe.report import render_terminal

    progress = for_stderr()
    planned = make_plan(recipe, changes or [], progress)
    out = output or Path("out") / planned.recipe.name
    words = ["deploypipe", "run", str(recipe), "-o", str(out)]
    words += [word for change in changes or [] for word in ("--set", change)]
    result = run_plan(planned, out, progress, shlex.join(words))
    _show(
        result.report, as_json, lambda _: render_terminal(result.report), f"All of it lies in {out}"
    )
    raise typer.Exit(result.exit_code)


@app.command()
def plan(recipe: Recipe, changes: Set = None, as_json: Json = False) -> None:
    """What would run, with an estimate of time and memory."""
    from deploypipe.estimate import estimate
    from deploypipe.pipeline import plan as make_plan
    from deploypipe.report.tables import plan_table

    _show(estimate(make_plan(recipe, changes or [])), as_json, plan_table)


@app.command()
def doctor(
    recipe: Annotated[Path | None, typer.Argument(metavar="[RECIPE]")] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FILE.onnx", help="Why does it not run in 8 bits?")
    ] = None,
    repaired: Annotated[
        Path | None, typer.Option("--repair", metavar="FILE.onnx", help="Write the model mended")
    ] = None,
    target: TargetName = "cpu",
    as_json: Json = False,
) -> None:
    """What is here or missing, and what a recipe would lack."""
    from deploypipe.doctor import examine, examine_model
    from deploypipe.report.tables import key_table

    if repaired is not None and model is None:
        raise typer.BadParameter("--repair needs --model")
    if model is not None:
        opened = arguments.settings(None, None, target, None).open_target()
        _show(examine_model(model, opened, repaired), as_json, key_table)
        return
    found = examine(recipe)
    _show(found, as_json, key_table)
    raise typer.Exit(found["exit_code"])


@app.command(name="list")
def list_(
    shelf: Annotated[str | None, typer.Argument(metavar="[SHELF]")] = None, as_json: Json = False
) -> None:
    """What a recipe can name: steps, passes, targets and more.

    The shelves: stage, pass, target, calibrator, criterion, loss, metric, source, method,
    correction.
    """
    from deploypipe.catalogue import catalogue
    from deploypipe.report.tables import catalogue_table

    _show(catalogue(shelf), as_json, catalogue_table)


@app.command()
def inspect(
    model: Model, target: TargetName = "cpu", threads: Threads = None, as_json: Json = False
) -> None:
    """Inputs, sizes, MACs, dead channels, int8, placement."""
    from deploypipe import verbs
    from deploypipe.report.tables import key_table

    _show(
        verbs.inspect_model(model, arguments.settings(None, None, target, threads)),
        as_json,
        key_table,
    )


@app.command()
def export(
    source: Annotated[str, typer.Argument(help="recipe.yaml, FILE.py:FUNCTION or MODULE:FUNCTION")],
    output: Output,
    weights: Annotated[Path | None, typer.Option(help="safetensors or a plain state dict")] = None,
    data: Data = None,
    shape: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=3,32,32", help="Without the batch.")
    ] = None,
    as_json: Json = False,
) -> None:
    """torch -> ONNX, with the proof that both answer alike."""
    from deploypipe import verbs
    from deploypipe.report.tables import key_table

    shapes = dict(arguments.shape(text) for text in shape or [])
    settings = arguments.settings(data, None, "cpu", None)
    _show(
        verbs.export_model(source, output, settings, weights=weights, shapes=shapes),
        as_json,
        key_table,
    )


@app.command()
def optimize(
    model: Model,
    output: Output,
    passes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:OPTION=VALUE],...",
            help="Default: the exact set. See: deploypipe list pass",
        ),
    ] = None,
    plugin: Annotated[
        list[Path] | None, typer.Option(help="A Python file with passes of your own.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="A folder for the proof of removed channels.")
    ] = None,
    data: Data = None,
    target: TargetName = "cpu",
    as_json: Json = False,
) -> None:
    """Exact graph passes; the outputs are compared."""
    from deploypipe import verbs
    from deploypipe.report.tables import key_table

    named = None if passes is None else arguments.specs(passes, "--passes")
    settings = arguments.settings(data, None, target, None)
    found = verbs.optimize_model(model, output, settings, named, plugin or [], certificate)
    _show(found, as_json, key_table)


@app.command()
def quantize(
    model: Model,
    output: Output,
    data: Data = None,
    samples: Samples = None,
    method: arguments.Method = None,
    calibrator: Annotated[
        str | None,
        typer.Option(metavar="NAME[:OPTION=VALUE]", help="See: deploypipe list calibrator"),
    ] = None,
    corrections: arguments.Corrections = None,
    least_sqnr: Annotated[
        float | None, typer.Option(metavar="DB", help="What the outputs are to keep.")
    ] = None,
    least_agreement: Annotated[
        str | None, typer.Option(metavar="99%", help="Of a classifier's answers, to stay.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="All that fuses, whether it is faster here or not")
    ] = False,
    target: TargetName = "cpu",
    as_json: Json = False,
) -> None:
    """Fewer bits: static int8 where it is faster, or --method."""
    from deploypipe import verbs
    from deploypipe.report.tables import key_table

    options: dict[str, object] = {"decide": not everything}
    options |= {"calibrator": arguments.spec(calibrator, "--calibrator")} if calibrator else {}
    share = None if least_agreement is None else arguments.points(least_agreement)
    floors = {"least_sqnr": least_sqnr, "least_agreement": share}
    options |= {name: value for name, value in floors.items() if value is not None}
    options |= (
        {}
        if corrections is None
        else {"corrections": arguments.specs(corrections, "--corrections")}
    )
    options |= {"method": arguments.spec(method, "--method")} if method else {}
    made = verbs.quantize_model(
        model, output, arguments.settings(data, samples, target, None), options
    )
    _show(made, as_json, lambda found: key_table({k: v for k, v in found.items() if k != "notes"}))


app.command()(validate_command.validate)


@app.command()
def bench(
    candidate: Annotated[
        Path, typer.Argument(metavar="CANDIDATE", help="MODEL.onnx, or FILE.py:FUNCTION")
    ],
    baseline: Annotated[Path | None, typer.Argument(metavar="[BASELINE]")] = None,
    batch: arguments.Batch = 1,
    margin: Annotated[str, typer.Option(help="How much slower CANDIDATE may be.")] = "5%",
    seconds: Annotated[
        float | None,
        typer.Option(help="At most about so long; default: 10 or more, by the model.", min=0.01),
    ] = None,
    data: Data = None,
    target: TargetName = "cpu",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Latency of a model; is it slower than a baseline?

    Exit codes: 0 not slower than the margin allows, 1 slower (or crashed), 3 undecided.
    """
    from deploypipe import verbs
    from deploypipe.report.bench_markdown import bench_markdown
    from deploypipe.report.tables import bench_table

    allowed = arguments.percent(margin)
    found = verbs.bench_models(
        [candidate, *([baseline] if baseline else [])],
        arguments.settings(data, None, target, threads),
        batch=batch,
        seconds=seconds,
        margin=allowed,
    )
    _show(found, as_json, bench_table, summary=bench_markdown)
    raise typer.Exit({"slower": 1, "crashed": 1, "undecided": 3}.get(found.get("answer", ""), 0))


@app.command()
def pack(
    model: Model,
    output: Output,
    data: Data = None,
    name: Annotated[str | None, typer.Option(help="Default: the file's name.")] = None,
    as_json: Json = False,
) -> None:
    """Bundle a model with golden answers: a folder or a .tar."""
    from deploypipe import verbs
    from deploypipe.report.tables import key_table

    _show(
        verbs.pack_model(model, output, arguments.settings(data, None, "cpu", None), name),
        as_json,
        key_table,
    )


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE")],
    target: TargetName = "cpu",
    as_json: Json = False,
) -> None:
    """Re-check every hash and golden answer of a bundle."""
    from deploypipe import verbs
    from deploypipe.report.tables import key_table

    _show(
        verbs.verify_bundle(bundle, arguments.settings(None, None, target, None)),
        as_json,
        key_table,
    )


@app.command(name="verify-channels")
def verify_channels(
    before: Annotated[Path, typer.Argument(metavar="BEFORE.onnx")],
    after: Annotated[Path, typer.Argument(metavar="AFTER.onnx")],
    certificate: Annotated[Path, typer.Argument(metavar="CERTIFICATE.json")],
    sizes: Annotated[
        list[str] | None, typer.Option("--size", metavar="NAME=N", help="A dynamic size.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Re-derive each claim on channels that were removed."""
    from deploypipe import verbs
    from deploypipe.report.tables import key_table

    bound = dict(arguments.named_size(text) for text in sizes or [])
    _show(verbs.verify_channels(before, after, certificate, bound), as_json, key_table)


app.command()(report_command.report)
app.command()(report_command.schema)


if __name__ == "__main__":
    main()
