"""The pytest plugin, as a user's own test suite sees it."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

from deploypipe.pytest_plugin import _quantity

pytest_plugins = ["pytester"]

REPOSITORY = Path(__file__).parents[1]

INSTALLED = any(p.name == "deploypipe" for p in importlib.metadata.entry_points(group="pytest11"))
PLUGIN = "deploypipe" if INSTALLED else "deploypipe.pytest_plugin"


def scaled(w):
    return onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        scaled (float[N, 3] x) => (float[N, 3] y)
        <float[3] w = {{{", ".join(map(str, w))}}}> {{ y = Mul(x, w) }}"""
    )


PROCESSES = "--deploypipe-seconds=3"
"""The shortest time that has room for fresh processes; below it there are fresh sessions."""


@pytest.fixture(scope="module")
def models(chain):
    made = {"base": scaled((1, 1, 1)), "same": scaled((2, 2, 2)), "broken": scaled((1, 1, 9))}
    made |= {"long": chain(20), "short": chain(1)}
    return {name: model.SerializeToString() for name, model in made.items()}


@pytest.fixture
def suite(pytester, monkeypatch, models):
    """Runs a test file of a user's in a folder with models and samples."""
    for name, model in models.items():
        (pytester.path / f"{name}.onnx").write_bytes(model)
    rng = np.random.default_rng(0)
    x = rng.random((400, 3), np.float32) + np.float32(0.5)
    np.savez(f"{pytester.path}/val.npz", x=x, label=x.argmax(axis=1))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))

    def run(body, *arguments):
        pytester.makepyfile(body)
        options = ("-p", PLUGIN, "-p", "no:cacheprovider", "-rA", "--deploypipe-seconds=0.4")
        return pytester.runpytest(*options, *arguments)

    return run


ACCURACY = """
def test_deployable(accuracy):
    claim = accuracy.compare({candidate!r}, "base.onnx", data={{"npz": {{"file": "val.npz"}}}})
    claim.within({limit!r})
"""


def test_an_accuracy_claim_that_holds_passes(suite):
    result = suite(ACCURACY.format(candidate="same.onnx", limit="1.0 points"))
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*= deploypipe =*", "*test_deployable*PASS*accuracy drop*0 points*"]
    )


def test_an_accuracy_claim_that_is_wrong_fails_with_its_numbers(suite):
    result = suite(ACCURACY.format(candidate="broken.onnx", limit="1.0 points"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*FAIL: accuracy drop: *points*limit 1 points*400 samples*"])


def test_an_undecided_claim_warns(suite):
    result = suite(ACCURACY.format(candidate="same.onnx", limit="0.1 points"))
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*UndecidedWarning: accuracy drop*too few samples*"])


def test_an_undecided_claim_fails_when_strict(suite):
    body = ACCURACY.format(candidate="same.onnx", limit="0.1 points")
    result = suite(body, "--deploypipe-strict")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UNDECIDED: accuracy drop*"])


def test_a_limit_that_is_no_limit_is_an_error(suite):
    result = suite(ACCURACY.format(candidate="same.onnx", limit="a little"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*expected a limit such as '1 points', got 'a little'*"])


def test_agreement_is_counted_and_needs_no_labels(suite):
    result = suite("""
        import numpy as np, pytest
        def test_agreement(accuracy):
            np.savez("bare.npz", x=np.load("val.npz")["x"])
            data = {"npz": {"file": "bare.npz"}}
            accuracy.agreement("same.onnx", "base.onnx", data=data).at_least("100%")
            for odd in (0.99, "150%"):
                with pytest.raises(Exception, match="at_least: expected a percentage such as"):
                    accuracy.agreement("same.onnx", "base.onnx", data=data).at_least(odd)
            with pytest.raises(pytest.fail.Exception, match="FAIL: agreement"):
                accuracy.agreement("broken.onnx", "base.onnx", data=data).at_least("99%")
    """)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*FAIL*agreement*34*%*", "*PASS*agreement*100%*"])


def test_models_that_score_no_classes_have_no_agreement(suite):
    result = suite("""
        import numpy as np, onnx.parser
        def test_agreement(accuracy):
            text = '<ir_version: 10, opset_import: ["" : 20]> g (float[N, 1] x) => (float[N, 1] y)'
            onnx.save(onnx.parser.parse_model(text + "{ y = Neg(x) }"), "neg.onnx")
            onnx.save(onnx.parser.parse_model(text + "{ y = Abs(x) }"), "abs.onnx")
            np.savez("one.npz", x=np.ones((8, 1), np.float32))
            data = {"npz": {"file": "one.npz"}}
            accuracy.agreement("neg.onnx", "abs.onnx", data=data).at_least("99%")
    """)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*agreement takes models with outputs*two classes or more*"])


@pytest.mark.parametrize(
    ("limit", "unit", "value"),
    [("5%", "%", 5), (1e-05, "squared error", 1e-05), ("0.1 squared error", "squared error", 0.1),
     ("2", "points", 2)],
)  # fmt: skip
def test_a_limit_is_a_number_or_one_with_the_unit(limit, unit, value):
    assert _quantity(limit, unit) == value


@pytest.mark.parametrize("limit", ["1 points", "-1", "nan", ""])
def test_a_limit_in_another_unit_is_refused(limit):
    with pytest.raises(ValueError, match="a limit such as '1 squared error'"):
        _quantity(limit, "squared error")


def test_an_expected_failure_is_told_as_well(suite):
    body = ACCURACY.format(candidate="broken.onnx", limit="1.0 points")
    result = suite("import pytest\n@pytest.mark.xfail\n" + body.lstrip())
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(["*test_deployable*FAIL*accuracy drop*"])


def test_latency_claims_on_models_that_differ_twentyfold(suite):
    result = suite(
        """
        import pytest
        def test_faster(latency):
            claim = latency.compare("short.onnx", "long.onnx", batch=64, rounds=3)
            assert claim.comparison.speedup.value > 2
            assert claim.comparison.fresh == "process"
            with pytest.raises(pytest.fail.Exception, match="FAIL: speedup"):
                claim.faster_than(10_000)
            claim.within("5%")
    """,
        PROCESSES,
    )
    result.assert_outcomes(passed=1, warnings=result.parseoutcomes().get("warnings", 0))
    result.stdout.fnmatch_lines(["*test_faster*not slower*limit 0.952x*"])
    result.stdout.fnmatch_lines(["*test_faster*speedup*limit 1e+04x*"])


def test_a_run_without_claims_has_no_section(suite):
    result = suite("def test_nothing(): pass")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*= deploypipe =*")


def test_claims_reach_the_terminal_from_workers(suite):
    pytest.importorskip("xdist")
    result = suite(ACCURACY.format(candidate="same.onnx", limit="1.0 points"), "-n", "1")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_deployable*PASS*accuracy drop*"])


def test_the_plugin_imports_nothing_heavy():
    code = (
        "import sys, deploypipe.pytest_plugin;"
        "print([m for m in ('onnxruntime', 'onnx', 'torch', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.stdout.strip() == "[]"


KEPT = """
def test_deployable(latency):
    latency.compare({candidate!r}, batch=64, rounds=3).within("900%")
"""


def test_a_claim_without_a_baseline_is_undecided_and_says_how_to_keep_one(suite):
    result = suite(KEPT.format(candidate="short.onnx"))
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*there is no baseline*keep one with --deploypipe-update*"])
    assert suite(KEPT.format(candidate="short.onnx"), "--deploypipe-strict").ret == 1


def test_a_baseline_is_kept_and_run_again(suite, pytester):
    kept = suite(KEPT.format(candidate="short.onnx"), "--deploypipe-update")
    kept.assert_outcomes(passed=1)
    kept.stdout.fnmatch_lines(["*test_deployable*PASS*not slower*short.onnx is now the baseline*"])
    assert "not measured" not in kept.stdout.str().split("= deploypipe =")[1]
    assert (pytester.path / ".deploypipe" / "baselines.json").is_file()
    again = suite(KEPT.format(candidate="short.onnx"))
    again.assert_outcomes(passed=1, warnings=again.parseoutcomes().get("warnings", 0))
    again.stdout.fnmatch_lines(["*test_deployable*not slower*limit 0.1x*"])


def test_a_baseline_of_another_machine_is_undecided_and_says_what_differs(suite, pytester):
    suite(KEPT.format(candidate="short.onnx"), "--deploypipe-update")
    index = pytester.path / ".deploypipe" / "baselines.json"
    entries = json.loads(index.read_text())
    next(iter(entries.values()))["environment"]["cpu"] = "another processor"
    index.write_text(json.dumps(entries))
    result = suite(KEPT.format(candidate="short.onnx"))
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*from another machine: cpu: another processor against*"])


def test_accuracy_has_baselines_too_and_they_know_their_samples(suite, pytester):
    body = ACCURACY.format(candidate="same.onnx", limit="1.0 points")
    body = body.replace('"base.onnx", ', 'baseline="shared", ')
    suite(body, "--deploypipe-update").assert_outcomes(passed=1)
    suite(body).assert_outcomes(passed=1)
    x = np.random.default_rng(1).random((400, 3), np.float32)
    np.savez(f"{pytester.path}/val.npz", x=x, label=x.argmax(axis=1))
    result = suite(body)
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*the samples have changed since the baseline*"])


def test_two_models_of_one_test_have_two_baselines(suite, pytester):
    body = """
        def test_both(accuracy):
            for file in ("same.onnx", "broken.onnx"):
                claim = accuracy.compare(file, data={"npz": {"file": "val.npz"}})
                claim.within("1.0 points")
    """
    suite(body, "--deploypipe-update").assert_outcomes(passed=1)
    suite(body).assert_outcomes(passed=1)
    (pytester.path / "same.onnx").write_bytes((pytester.path / "broken.onnx").read_bytes())
    result = suite(body)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*FAIL: accuracy drop*"])


def test_claims_of_two_kinds_on_one_file_each_find_their_baseline(suite):
    body = """
        def test_deployable(latency, accuracy):
            latency.compare("same.onnx", rounds=3).within("900%")
            accuracy.compare("same.onnx", data={"npz": {"file": "val.npz"}}).within("1.0 points")
    """
    suite(body, "--deploypipe-update").assert_outcomes(passed=1)
    result = suite(body)
    result.stdout.no_fnmatch_line("*the baseline is from another machine*")
    result.stdout.fnmatch_lines(["*PASS*accuracy drop*"])


def test_agreement_has_baselines_too(suite, pytester):
    body = """
        def test_agreement(accuracy):
            claim = accuracy.agreement({candidate!r}, data={{"npz": {{"file": "val.npz"}}}})
            claim.at_least("99%")
    """
    first = suite(body.format(candidate="same.onnx"))
    first.assert_outcomes(passed=1, warnings=1)
    first.stdout.fnmatch_lines(["*there is no baseline*keep one with --deploypipe-update*"])
    suite(body.format(candidate="same.onnx"), "--deploypipe-update").assert_outcomes(passed=1)
    (pytester.path / "same.onnx").write_bytes((pytester.path / "broken.onnx").read_bytes())
    result = suite(body.format(candidate="same.onnx"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*FAIL: agreement: 34*%*limit 99%*"])


def test_what_is_no_file_can_be_no_baseline(suite):
    body = "def test_function(latency):\n    latency.compare(len).within('5%')\n"
    result = suite(body, "--deploypipe-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*is no file, and baselines are files to run again. Give a reference*"]
    )


def test_a_candidate_that_crashes_fails_its_test_and_not_the_run(suite, pytester):
    (pytester.path / "made.py").write_text(
        "import os\n\ndef build():\n    return lambda feed: os.abort()\n"
    )
    result = suite(
        """
        def test_crashing(latency):
            latency.compare("made.py:build", "short.onnx", rounds=2).within("5%")
        def test_after():
            pass
    """,
        PROCESSES,
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*FAIL: not slower*the process of the candidate*SIGABRT*"])


def test_functions_and_modules_can_be_compared(suite):
    result = suite("""
        import time
        def test_functions(latency):
            claim = latency.compare(lambda: None, lambda: time.sleep(0.02), rounds=3)
            claim.faster_than(1.01)
            assert claim.comparison.fresh == "session"
    """)
    result.assert_outcomes(passed=1, warnings=result.parseoutcomes().get("warnings", 0))


def test_claims_are_properties_in_junit_and_lines_in_the_history(suite, pytester):
    body = ACCURACY.format(candidate="same.onnx", limit="1.0 points")
    for _ in range(2):
        suite(body, "--junitxml=junit.xml", "--deploypipe-folder=elsewhere")
    text = (pytester.path / "junit.xml").read_text()
    assert 'name="deploypipe.accuracy drop" value="PASS 0 points' in text
    lines = (pytester.path / "elsewhere" / "history.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["outcome"] for row in rows] == ["PASS", "PASS"]
    assert rows[0]["test"].endswith("test_deployable")


def test_a_latency_that_leaves_its_past_raises_an_alarm(suite, pytester):
    body = """
        import time
        def test_drifting(latency):
            fast, slow = lambda: None, lambda: time.sleep(0.02)
            latency.compare(fast, slow, rounds=3).faster_than(1.01)
    """
    suite(body)
    file = pytester.path / ".deploypipe" / "history.jsonl"
    (row,) = map(json.loads, file.read_text().splitlines())
    old = [json.dumps({**row, "measured": 50 + 0.01 * i}) for i in range(20)]
    file.write_text("\n".join(old) + "\n")
    result = suite(body)
    result.stdout.fnmatch_lines(["*test_drifting*drift: *beyond 4 sigma of the last 20 runs*"])
    result.stdout.fnmatch_lines(["*DriftWarning*"])
