"""Progress: a bar on a screen, a line a minute in a log, nothing where it is not wanted."""

import io
import re
import sys

import pytest

from so3ntk.basics import progress
from so3ntk.basics.progress import show_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_a_minute_in_a_log(clock, monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with show_progress(4000, " pairs", "Gram matrix", True) as bar:
        for _ in range(40):
            clock[0] += 4
            bar.update(100)
    lines = log.getvalue().splitlines()
    assert len(lines) == 3  # after one minute, after two, and at the end
    assert lines[0] == "Gram matrix:  38 %, 1.50k/4.00k pairs in 01:00, 01:40 left, 25.0 pairs/s"
    assert lines[-1] == "Gram matrix: 100 %, 4.00k/4.00k pairs in 02:40, 00:00 left, 25.0 pairs/s"
    assert "\r" not in log.getvalue()


def test_nothing_is_said_of_work_that_failed(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with pytest.raises(KeyError), show_progress(3, " pairs", "Forces", True):
        raise KeyError
    assert log.getvalue() == ""


@pytest.mark.parametrize("notebook", [False, True])
def test_a_bar_on_a_screen(notebook, monkeypatch):
    screen = io.StringIO() if notebook else Terminal()
    if notebook:  # its streams are no terminals, and draw bars all the same
        kind = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
        screen = kind()
    monkeypatch.setattr(sys, "stderr", screen)
    with show_progress(2, " pairs", "Forces", True) as bar:
        bar.update(2)
    assert re.search(r"\rForces: 100%\|.*2\.00/2\.00", screen.getvalue())


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_nothing_where_it_is_not_wanted(kind, monkeypatch):
    stream = kind()
    monkeypatch.setattr(sys, "stderr", stream)
    with show_progress(2, " pairs", "Forces", False) as bar:
        bar.update(2)
    assert stream.getvalue() == ""
