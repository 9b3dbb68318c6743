"""The same seed gives the same numbers twice, claims hold on other numbers of threads, and two trainings share the cores."""

import os
import subprocess
import sys

import nbformat
import pytest
import torch

from aecourse import _notebooks

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def start(program, *arguments, without=(), **environment):
    env = {name: value for name, value in os.environ.items() if name not in without}
    return subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], env=env | environment, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


TRAIN = """
import sys
import aecourse, torch
from aecourse import data, losses
from aecourse.models import VAE, conv_decoder, conv_encoder
from aecourse.training import fit, set_seed

def elbo(model, x):
    x_hat, mu, logvar = model(x)
    return losses.bce(x_hat, x) + losses.kl_normal(mu, logvar)

torch.set_num_threads(2)
set_seed(int(sys.argv[2]))
x = data.speech("test", "synthesised").x
x = torch.stft(x, 256, window=torch.hann_window(256), return_complex=True).abs()[:, None, :128, :32].clamp(max=1)
model = VAE(conv_encoder((1, 128, 32), [4, 8], 8), conv_decoder(4, [8, 4], (1, 128, 32)))
history = fit(model, elbo, data.Batches(x, size=64), 2, progress=False)
torch.save({"x": x, **model.state_dict(), "loss": torch.tensor(history["elbo"])}, sys.argv[1])
"""


def test_data_and_training_are_the_same_bit_for_bit_in_every_process(tmp_path):
    """Each process makes the data anew and hashes strings in its own way; another seed shows that weights can differ."""
    def results(name, seed):
        process = start(TRAIN, tmp_path / name, seed, AECOURSE_DATA_DIR=str(tmp_path / f"data of {name}"),
                        PYTHONHASHSEED=str(len(name)))
        _, told = process.communicate(timeout=600)
        assert process.returncode == 0, told
        return torch.load(tmp_path / name, weights_only=True)

    one, two, other = results("a", 3), results("bc", 3), results("d", 4)
    assert all(torch.equal(one[key], two[key]) for key in one | two)
    assert torch.equal(one["x"], other["x"]) and not torch.equal(one["loss"], other["loss"])


def test_a_lesson_measured_twice_claims_the_same_numbers():
    """To the last of the six digits that the ledger keeps."""
    (path,) = _notebooks.find(["00"])
    one, two = (_notebooks.measure(path, 0, "embedded") for _ in range(2))
    assert one["claims"] == two["claims"] and len(one["claims"]) >= 5


@pytest.mark.parametrize("lesson", ["00", "01"])
def test_the_claims_hold_on_another_number_of_threads(lesson):
    """The one leaves the number to torch, the other asks for one thread."""
    (path,) = _notebooks.find([lesson])
    fixed = "set_num_threads(1)" in path.read_text(encoding="utf-8")
    notebook, *_ = _notebooks.execute(path, threads=2 if fixed or torch.get_num_threads() == 1 else 1)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", []) if "claimed:" in str(output)]
    assert len(shown) >= 5 and not any("✗" in str(output) for output in shown)


STEPS = """
import os, sys, time
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import aecourse, torch
net = torch.nn.Sequential(torch.nn.Linear(784, 400), torch.nn.ReLU(), torch.nn.Linear(400, 784))
optimizer, x = torch.optim.Adam(net.parameters(), fused=True), torch.rand(128, 784)

def steps(seconds):
    done, end, cpu = 0, time.perf_counter() + seconds, time.process_time()
    while time.perf_counter() < end:
        optimizer.zero_grad(), (net(x) - x).square().mean().backward(), optimizer.step()
        done += 1
    return done / (time.process_time() - cpu)

for line in sys.stdin:
    torch.set_num_threads(int(line))
    steps(0.3)
    print(steps(2), flush=True)
"""


@pytest.mark.skipif(CORES < 2, reason="one core, or a system that does not say how many a process may use")
def test_two_trainings_share_two_cores():
    """Two at once, of two threads each, do at least a quarter of what one thread alone does in as much time on a core.

    Threads that wait by spinning burn that time. It is not the clock's: whatever else the machine does is not counted.
    """
    pair = [start(STEPS, without=("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")) for _ in range(2)]

    def steps_per_second(processes, threads):
        for process in processes:
            process.stdin.write(f"{threads}\n")
            process.stdin.flush()
        return sum(float(process.stdout.readline()) for process in processes) / len(processes)

    try:
        alone, both = steps_per_second(pair[:1], threads=1), steps_per_second(pair, threads=2)
    finally:
        for process in pair:
            process.kill()
    assert both / alone > 0.25


def test_torch_before_aecourse_is_told_where_it_happened(tmp_path, monkeypatch):
    """With the line of a script, and below the cell of a notebook."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    script = tmp_path / "script.py"
    script.write_text("import torch\nimport aecourse\n")
    told = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stderr
    assert told.startswith(f"{script}:2: UserWarning: torch was imported before aecourse")
    cells = [nbformat.v4.new_code_cell(line) for line in script.read_text().splitlines()]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "late.ipynb")
    notebook, *_ = _notebooks.execute(tmp_path / "late.ipynb")
    assert "UserWarning: torch was imported before aecourse" in notebook.cells[1].outputs[0].text
