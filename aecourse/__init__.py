"""A course on autoencoders: the lessons are in `notebooks/`, what they share is here."""

import os
import sys
import warnings

__version__ = "0.3.0"

# PyTorch's threads spin while they wait for each other, and two notebooks that train at once on two
# cores starve each other. So they spin for a moment (libgomp's count of turns, on Linux) and then
# sleep. OpenMP reads both settings once, when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "800")
    if "torch" in sys.modules:
        warnings.warn(
            "torch was imported before aecourse, too late to share the cores with a second "
            "notebook: restart Python (in a notebook: the kernel) and import aecourse first.",
            stacklevel=2,
        )
