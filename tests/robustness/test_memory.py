"""Images that do not fit into memory: mapped from a file, they are trained on all the same."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

TRAIN = """
import re, resource, sys
import aecourse, torch
from aecourse import losses
from aecourse.data import Batches, faces
from aecourse.models import Autoencoder, conv_decoder, conv_encoder
from aecourse.training import fit

def reconstruct(model, x):
    return losses.squared_error(model(x), x)

shape, channels = (3, 256, 256), [4, 4, 4, 4]
model = Autoencoder(conv_encoder(shape, channels, 8), conv_decoder(8, channels, shape))
fit(model, reconstruct, [torch.rand(4, *shape)], 1, progress=False)  # so that all is loaded
used = int(re.search(r"VmData:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
limit = used + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
x, _ = faces("train", sys.argv[1], size=256)
print(fit(model, reconstruct, Batches(x, batch_size=4), 1, progress=False), x.dtype)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_mapped_images_are_trained_on_under_a_limit_that_memory_does_not_keep(tmp_path):
    folder, n = tmp_path / "images", 500
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "0.jpg")
    for i in range(1, n):
        os.link(folder / "0.jpg", folder / f"{i}.jpg")
    size = n * 3 * 256 * 256  # bytes; as floats four times as much
    command = [sys.executable, "-c", TRAIN, str(folder), str(int(2.5 * size))]
    env = os.environ | {"AECOURSE_DATA_DIR": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"}
    for mapped in ("1", "0"):
        env["AECOURSE_MEMMAP"] = mapped
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if mapped == "1":
            assert done.returncode == 0 and "torch.uint8" in done.stdout, done.stderr
        else:
            assert done.returncode == 1 and "memory" in done.stderr.lower(), done.stderr
