"""The host is told without naming it."""

import json
import platform

import pytest

from deploypipe.runtime import host
from deploypipe.runtime.host import (
    _cpuinfo_cores,
    _quota,
    package_version,
    physical_cores,
    usable_cores,
)

CPUINFO = "physical id: {socket}\ncore id: {core}\n"


def test_the_host_is_plain_json_and_has_what_matters():
    told = host()
    assert json.loads(json.dumps(told)) == told
    assert told["python"] == platform.python_version()
    assert {"os", "machine", "cpu", "flags", "cores", "packages", "gpus"} <= set(told)
    assert "numpy" in told["packages"]


def test_the_host_has_no_name_of_a_machine():
    assert platform.node() == "" or platform.node() not in json.dumps(host())


def test_changing_the_answer_does_not_change_the_next_one():
    host()["cpu"] = "abacus"
    assert host()["cpu"] != "abacus"


def test_hyper_threads_count_once():
    pairs = [(0, 0), (0, 1), (0, 0), (0, 1), (1, 0)]
    text = "\n".join(CPUINFO.format(socket=s, core=c) for s, c in pairs)
    assert _cpuinfo_cores(text) == 3


def test_a_cpuinfo_without_cores_counts_none():
    assert _cpuinfo_cores("processor: 0\nBogoMIPS: 50\n") == 0


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", 0), ("150000 100000", 2), ("50000 100000", 1), ("", 0)]
)
def test_the_quota_of_a_container_is_rounded_up(text, cores):
    assert _quota(text) == cores


def test_a_package_that_is_not_installed_has_no_version():
    assert package_version("numpy") == host()["packages"]["numpy"]
    assert package_version("no-such-package-here") is None


def test_usable_cores_are_at_least_one_and_at_most_all():
    assert 1 <= usable_cores() <= physical_cores()
