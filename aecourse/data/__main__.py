"""`python -m aecourse.data` lists where data is looked for, and which sources are there."""

import os

from aecourse.data import store
from aecourse.data.speech import FSDD_FILES
from aecourse.data.transactions import ULB_FILES

# Files and folders of the data folder or the mirror; one of them shows that a source is there.
LFW_FILES = ("lfw_one_per_person.tar", "lfw", "lfw_funneled", "lfw-deepfunneled", "lfw_home")
ULB_CACHE = "cache/transactions-openml-1597.npz"
EMBEDDED = ()
FILES = {
    "digits": {"strokes": EMBEDDED, "mnist": ("MNIST",), "fashion-mnist": ("FashionMNIST",)},
    "faces": {"drawn": EMBEDDED, "lfw": LFW_FILES, "celeba": ("celeba", "celeba-dataset")},
    "transactions": {"simulated": EMBEDDED, "ulb": (*ULB_FILES, ULB_CACHE)},
    "speech": {"synthesized": EMBEDDED, "fsdd": FSDD_FILES},
    "noises": {"synthesized": EMBEDDED, "recorded": ("noise/running_tap.wav",)},
}


def main() -> None:
    print(f"data folder (AECOURSE_DATA_DIR): {store.folder()}")
    print(
        f"read-only folder of files (AECOURSE_MIRROR): {os.environ.get('AECOURSE_MIRROR', 'none')}"
    )
    print(f"source in use (AECOURSE_DATA): {os.environ.get('AECOURSE_DATA') or 'embedded'}")
    for kind, sources in FILES.items():
        for source, names in sources.items():
            place = store.find(*names)
            absent = "put it there by hand" if source == "recorded" else "will be downloaded"
            state = f"here: {place}" if place else absent if names else "embedded"
            print(f"  {kind:<14}{source:<15}{state}")


if __name__ == "__main__":
    main()
