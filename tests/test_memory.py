"""How much memory a lesson takes: the kernel's own high-water mark, as `python -m aecourse lessons` tells it; faces by number."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch

from aecourse import __main__ as cli, _notebooks
from aecourse.data import faces

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells another process's peak")
MEGABYTE = 2**20


@linux
def test_the_peak_outlives_what_was_let_go():
    program = "import sys\nheld = bytearray(b'x') * 2**28\ndel held\nprint(flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert 256 * MEGABYTE < _notebooks.peak_memory(process.pid) < 356 * MEGABYTE
        process.stdin.close()


def test_a_peak_that_cannot_be_known_is_none(monkeypatch, tmp_path):
    assert _notebooks.peak_memory(2**31 - 1) is None, "there is no such process"
    monkeypatch.setattr(_notebooks, "Path", lambda path: tmp_path / "status")
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t   9 kB\n")
    assert _notebooks.peak_memory(1) is None, "a status without a high-water mark"
    (tmp_path / "status").write_text("VmPeak:\t  8 kB\nVmHWM:\t   7 kB\n")
    assert _notebooks.peak_memory(1) == 7 * 1024


@linux
def test_a_lesson_is_run_with_its_peak(tmp_path):
    cells = [nbformat.v4.new_code_cell(cell) for cell in ("held = bytearray(b'x') * 2**29", "del held", "print(1)")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "00_large.ipynb")
    *_, memory = _notebooks.execute(tmp_path / "00_large.ipynb")
    assert 512 * MEGABYTE < memory < 812 * MEGABYTE


def test_lessons_tells_each_peak_and_the_largest(monkeypatch, capsys):
    peaks = {Path("00_small"): 300 * MEGABYTE, Path("01_large"): 1536 * MEGABYTE, Path("02_unknown"): None}
    monkeypatch.setattr(_notebooks, "find", lambda names: list(peaks))
    monkeypatch.setattr(_notebooks, "read", lambda path: nbformat.v4.new_notebook())
    monkeypatch.setattr(_notebooks, "execute", lambda path, **options: (None, [], 2.0, peaks[path]))
    assert cli.main(["lessons", "--check"]) == 0
    small, large, unknown, together = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert small == "00_small 2.0 s, peak memory 0.29 GiB".split()
    assert large == "01_large 2.0 s, peak memory 1.50 GiB".split()
    assert unknown == "02_unknown 2.0 s".split()
    assert together == "together, and the largest process 6.0 s, peak memory 1.50 GiB".split()


def test_the_first_faces_are_those_of_the_whole_set(home, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["aecourse.data.faces"], "_DRAWN", {"train": 20, "test": 6})
    x, factors = faces("train", "drawn")
    some, of_some = faces("train", "drawn", n=7)
    assert torch.equal(some, x[:7]) and all(torch.equal(of_some[name], values[:7]) for name, values in factors.items())
    assert "faces: drawn, 7 painted portraits" in capsys.readouterr().out
    assert len(faces("test", "drawn", n=100)[0]) == 6
    for n in (0, -3, 2.5):
        with pytest.raises(ValueError, match="n has to be a whole number"):
            faces("test", "drawn", n=n)


@linux
def test_the_first_faces_take_the_memory_of_their_number():
    """10,000 faces are 117 MiB as bytes, 469 MiB as floats."""
    program = """
import os
from aecourse._notebooks import peak_memory
from aecourse.data import faces as load
import numpy as np, sys
module = sys.modules["aecourse.data.faces"]
module._drawn = lambda split, size: (np.ones((10_000, 3, size, size), np.uint8), {}, "squares")
before = peak_memory(os.getpid())
load("train", "drawn", n=1000)
print(peak_memory(os.getpid()) - before)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert 117 * MEGABYTE < int(told.split()[-1]) < 234 * MEGABYTE
