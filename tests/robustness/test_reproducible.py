"""The same seed gives the same numbers in every process."""

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
