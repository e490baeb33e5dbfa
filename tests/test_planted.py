"""The list of planted faults fits the sources: each can be planted, and its tests are there."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_each_fault_can_be_planted(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "planted"))
    faults = importlib.import_module("faults").FAULTS
    assert len({fault.name for fault in faults}) == len(faults) >= 20
    for fault in faults:
        source = (ROOT / fault.file).read_text()
        if source.count(fault.old) != 1:
            pytest.fail(f"{fault.name}: {fault.file} holds {fault.old!r} {source.count(fault.old)} times")
        assert fault.new != fault.old
        missing = [test for test in fault.tests if not (ROOT / test.partition("::")[0]).exists()]
        assert not missing, f"{fault.name}: no {missing}"
