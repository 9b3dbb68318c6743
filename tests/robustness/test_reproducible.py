"""The same seed gives the same numbers in every process, and two trainings share the cores."""

import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.slow

TRAIN = """
import sys
import aecourse, torch
from aecourse import data, losses
from aecourse.models import VAE, conv_decoder, conv_encoder
from aecourse.training import fit, set_seed

def negative_elbo(model, x):
    x_hat, mu, logvar = model(x)
    return losses.bce(x_hat, x) + losses.kl_normal(mu, logvar)

torch.set_num_threads(2)
set_seed(int(sys.argv[2]))
x = data.digits("test", "strokes")[0][:640]
model = VAE(conv_encoder((1, 28, 28), [4, 8], 8), conv_decoder(4, [8, 4], (1, 28, 28)))
history = fit(model, negative_elbo, data.Batches(x, batch_size=64), 2, progress=False)
loss = torch.tensor(history["negative_elbo"])
torch.save({"x": x, **model.state_dict(), "loss": loss}, sys.argv[1])
"""


def test_data_and_training_are_the_same_bit_for_bit_in_every_process(tmp_path):
    """Each makes the data anew and hashes strings in its own way; another seed gives others."""

    def results(name, seed):
        env = os.environ | {"AECOURSE_DATA_DIR": str(tmp_path / f"data of {name}")}
        env["PYTHONHASHSEED"] = str(len(name))
        command = [sys.executable, "-c", TRAIN, str(tmp_path / name), str(seed)]
        subprocess.run(command, env=env, check=True, capture_output=True)
        return torch.load(tmp_path / name, weights_only=True)

    one, two, other = results("a", 3), results("bc", 3), results("d", 4)
    assert all(torch.equal(one[key], two[key]) for key in one | two)
    assert torch.equal(one["x"], other["x"]) and not torch.equal(one["loss"], other["loss"])


STEPS = """
import os, sys, time
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import aecourse, torch
layers = torch.nn.Linear(784, 400), torch.nn.ReLU(), torch.nn.Linear(400, 784)
net, x = torch.nn.Sequential(*layers), torch.rand(128, 784)
optimizer = torch.optim.Adam(net.parameters(), fused=True)

def steps_per_cpu_second(seconds):
    done, end, cpu = 0, time.perf_counter() + seconds, time.process_time()
    while time.perf_counter() < end:
        optimizer.zero_grad(), (net(x) - x).square().mean().backward(), optimizer.step()
        done += 1
    return done / (time.process_time() - cpu)

for line in sys.stdin:
    torch.set_num_threads(int(line))
    steps_per_cpu_second(0.3)
    print(steps_per_cpu_second(2), flush=True)
"""


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="the cores of a process are unknown"
)
def test_two_trainings_share_two_cores():
    """Two at once, of two threads each, against one with one thread, per second of processor time.

    Threads that spin while they wait burn it. What else the machine does is not counted.
    """
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    pair = [subprocess.Popen([sys.executable, "-c", STEPS], env=env, **pipes) for _ in range(2)]

    def measure(processes, threads):
        for process in processes:
            process.stdin.write(f"{threads}\n")
            process.stdin.flush()
        return sum(float(process.stdout.readline()) for process in processes) / len(processes)

    try:
        alone, both = measure(pair[:1], threads=1), measure(pair, threads=2)
    finally:
        for process in pair:
            process.kill()
    assert both / alone > 0.25
