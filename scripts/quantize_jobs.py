"""One quantizer on one model in a process of its own, so that a crash is a row of the bench.

python scripts/quantize_jobs.py METHOD float.onnx int8.onnx samples.npz

Prints one line of JSON: seconds, peak_bytes, and what the method tells of itself.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from channel_jobs import peak_bytes

Facts = dict[str, Any]
Feeds = dict[str, np.ndarray]
THREADS = 2


def single(file: Path) -> Iterator[Feeds]:
    """The samples of an .npz, one by one."""
    with np.load(file) as arrays:
        held = dict(arrays)
    for i in range(len(next(iter(held.values())))):
        yield {name: array[i : i + 1] for name, array in held.items()}


def deploypipe(source: Path, result: Path, samples: Path) -> Facts:
    """Our quantizer, which times what it makes and may refuse."""
    from deploypipe.graph.files import load, save
    from deploypipe.quantize import CALIBRATORS, PROFILES, Job, quantize_model
    from deploypipe.runtime.targets.cpu import Cpu
    from deploypipe.stages.quantize import race

    target = Cpu(THREADS)
    calibrator, profile = CALIBRATORS.build("auto"), PROFILES.build("cpu")
    job = Job(target, calibrator, profile, single(samples), race=race(target))
    done = quantize_model(load(source), job)
    save(done.model, result)
    decision = done.notes["decision"]
    return {
        "fused": done.notes["fused"],
        "planned": done.notes["planned"],
        "winner": decision["winner"],
        "times": decision["time_relative_to_float"],
    }


def advised(source: Path, result: Path, samples: Path) -> Facts:
    """quantize_static as its documents advise for x86: U8S8 and per channel."""
    from onnxruntime.quantization import QuantType

    signed, unsigned = QuantType.QInt8, QuantType.QUInt8
    return onnxruntime(
        source, result, samples, per_channel=True, activation_type=unsigned, weight_type=signed
    )


def onnxruntime(source: Path, result: Path, samples: Path, **options: object) -> Facts:
    """quantize_static after quant_pre_process, with nothing but its defaults."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = single(samples)

        def get_next(self) -> Feeds | None:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.onnx"
        try:
            quant_pre_process(str(source), str(ready))
        except Exception as error:
            ready, told = source, {"pre_process": str(error)[:100]}
        else:
            told = {}
        quantize_static(str(ready), str(result), Reader(), **options)
    return told


METHODS: dict[str, Callable[[Path, Path, Path], Facts]] = {
    "deploypipe": deploypipe,
    "onnxruntime": onnxruntime,
    "onnxruntime, U8S8": advised,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("source", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("samples", type=Path)
    given = parser.parse_args()
    started = time.perf_counter()
    facts = METHODS[given.method](given.source, given.result, given.samples)
    facts |= {"seconds": time.perf_counter() - started, "peak_bytes": peak_bytes()}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
