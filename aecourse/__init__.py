"""A course on autoencoders: the lessons are in `notebooks/`, what they share is here."""

import os
import socket
import sys
import warnings

__version__ = "0.1.0"


def _share_the_cores():
    """Choose how PyTorch's threads wait for each other, which OpenMP reads once, when torch is loaded: so before it is.

    By default they spin, and two notebooks that train at once on two cores starve each other. Asked to sleep they share,
    but a training alone pays for being woken many times a step. So the first process with this package spins for a moment
    before it sleeps, and each one that starts beside it sleeps at once. `python -m aecourse bench pair` measures it.
    """
    global _first
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if sys.platform == "linux" and "GOMP_SPINCOUNT" not in os.environ:
        _first = socket.socket(socket.AF_UNIX)
        try:
            _first.bind("\0aecourse")                    # a name, not a file; free again when the process ends
            os.environ["GOMP_SPINCOUNT"] = "800"        # of libgomp, the OpenMP of PyTorch on Linux
        except OSError:
            _first.close()


if "OMP_WAIT_POLICY" not in os.environ:
    _share_the_cores()
    if "torch" in sys.modules:
        warnings.warn(
            "torch was imported before aecourse, too late to share the cores with a second notebook: "
            "restart (in a notebook: the kernel) and import aecourse first, or set OMP_WAIT_POLICY=PASSIVE before Python starts.",
            stacklevel=2,
        )
