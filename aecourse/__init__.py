"""A course on autoencoders: the lessons are in `notebooks/`, what they share is here."""

import os
import sys
import warnings

__version__ = "0.1.0"

# Two notebooks that train at once on two cores starve each other: PyTorch's threads wait by spinning. Asked to sleep instead,
# they share. OpenMP reads the setting once, when torch is loaded, so it has to be made before.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if "torch" in sys.modules:
        warnings.warn(
            "torch was imported before aecourse, too late to share the cores with a second notebook: "
            "import aecourse first, or set OMP_WAIT_POLICY=PASSIVE before starting Python.",
            stacklevel=2,
        )
