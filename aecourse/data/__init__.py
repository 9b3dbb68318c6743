"""What the lessons learn from: embedded data that needs no network, and real data by one word.

Each kind is one function: `digits`, `faces`, `transactions`, `speech` (and `noises`).
`source=None` takes what `AECOURSE_DATA` says: "embedded" where it is unset, "real" for the first
real source of the kind, a name, or a path. `AECOURSE_DATA_DIR` moves the folder of downloads and
caches, `AECOURSE_MIRROR` names a read-only folder of original files, looked at before the network.
"""

# ruff: noqa: F401
from aecourse.data.batches import Batches
from aecourse.data.corruption import add_gaussian, add_noise_at, mask_pixels, salt_and_pepper
from aecourse.data.digits import digits
from aecourse.data.faces import FACTORS, draw_faces, faces
from aecourse.data.speech import noises, speech
from aecourse.data.store import DataError
from aecourse.data.toys import independent, subspace, swiss_roll
from aecourse.data.transactions import transactions
