"""What the lessons learn from: embedded data that needs no network, and real data by one word.

Each kind is one function: `digits`, `faces`, `transactions`, `speech` (and `noises`), with `source=None` for what
`AECOURSE_DATA` says ("embedded" where it is unset, "real" for the first real source of the kind). `AECOURSE_DATA_DIR` moves the
folder of downloads and caches, `AECOURSE_MIRROR` names a read-only folder with original files, looked at before the network.
"""

from aecourse.data._store import DataError
from aecourse.data.batches import Batches
from aecourse.data.digits import digits
from aecourse.data.faces import FACTORS, draw_faces, faces
from aecourse.data.noise import add_gaussian, add_noise_at, mask_pixels, salt_and_pepper
from aecourse.data.speech import KINDS as NOISE_KINDS
from aecourse.data.speech import WORDS, noises, speech
from aecourse.data.toys import independent, subspace, swiss_roll
from aecourse.data.transactions import transactions

__all__ = ["FACTORS", "NOISE_KINDS", "WORDS", "Batches", "DataError", "add_gaussian", "add_noise_at", "digits", "draw_faces",
           "faces", "independent", "mask_pixels", "noises", "salt_and_pepper", "speech", "subspace", "swiss_roll",
           "transactions"]
