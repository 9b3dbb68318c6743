"""Executing, cleaning and storing a notebook, on small notebooks."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

import lessons

pytestmark = pytest.mark.slow  # each of them starts a kernel
CELLS = (
    "import sys, ipywidgets\nfrom IPython.display import display\nfrom tqdm.auto import tqdm",
    "print('seed', SEED)\nprint('warning', file=sys.stderr)\nfor _ in tqdm(range(3)): pass",
    "display(ipywidgets.interactive_output(print, {}), ipywidgets.IntSlider())",
)


def test_stores_a_clean_notebook(lesson, capsys):
    path = lesson("00_small", *CELLS)
    notebook = lessons.read(path)
    notebook.cells[1].metadata = {"tags": ["recipe"], "collapsed": False}
    lessons.nbformat.write(notebook, path)
    assert lessons.main([]) == 0
    assert re.search(r"00_small +\d+\.\d s", capsys.readouterr().out)
    notebook = lessons.read(path)
    assert lessons.problems(notebook) == []
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3, 4]
    tags = [cell.metadata for cell in notebook.cells[:3]]
    assert tags == [{"tags": ["parameters"]}, {"tags": ["recipe"]}, {}]
    assert [output.text for output in notebook.cells[2].outputs] == ["seed 0\n"]
    shown = [output.data["text/plain"] for output in notebook.cells[3].outputs]
    assert shown == [lessons.INTERACTIVE] * 2


def test_check_stores_nothing(lesson):
    path = lesson("00_small", "1 + 1")
    before = path.read_bytes()
    assert lessons.main(["--check", "00"]) == 0
    assert path.read_bytes() == before


def test_stops_at_the_first_failure(lesson, capsys):
    paths = [lesson("01_broken", "answer = 1 / 0"), lesson("02_after", "1")]
    before = [path.read_bytes() for path in paths]
    assert lessons.main(["01", "02"]) == 1
    error = capsys.readouterr().err
    assert "01_broken.ipynb" in error and "answer = 1 / 0" in error and "ZeroDivisionError" in error
    assert [path.read_bytes() for path in paths] == before


def test_dead_kernel_is_reported(lesson, capsys):
    lesson("00_small", "import os\nos._exit(1)")
    assert lessons.main([]) == 1
    assert "00_small.ipynb, code cell 2:" in capsys.readouterr().err


def test_refuses_what_must_not_be_stored(lesson, capsys):
    home = "/" + "home/somebody/data"
    picture = (
        "from IPython.display import Image\nImage(data=b'\\x89PNG\\r\\n\\x1a\\n', format='png')"
    )
    path = lesson("00_small", f"print('from {home}')", "print('x' * 1_100_000)", picture)
    before = path.read_bytes()
    assert lessons.main([]) == 1
    error = capsys.readouterr().err
    for sentence in ("a path of one machine", "more than 1,000,000", "a picture without alt text"):
        assert sentence in error
    assert path.read_bytes() == before


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only Linux tells the peak")
def test_peak_memory_includes_what_was_freed(lesson):
    run = lessons.execute(lesson("00_large", "held = bytearray(b'x') * 2**29", "del held"))
    assert 2**29 < run.peak_bytes < 2**29 + 300 * 2**20


def test_unknown_name_is_reported(lesson, capsys):
    lesson("00_small")
    assert lessons.main(["07"]) == 1
    assert "no notebook begins with '07'" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_kernel_ends_with_a_killed_run(lesson, tmp_path):
    path = lesson(
        "00_long", "import os, time\nopen('pid', 'w').write(str(os.getpid()))", "time.sleep(60)"
    )
    code = f"import lessons; lessons.execute(lessons.Path({str(path)!r}))"
    env = os.environ | {"PYTHONPATH": os.path.dirname(lessons.__file__)}
    process = subprocess.Popen([sys.executable, "-c", code], env=env)
    while not (tmp_path / "pid").exists():
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kernel = int((tmp_path / "pid").read_text())
    time.sleep(5)
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)
