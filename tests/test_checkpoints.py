"""Checkpoints: a run cut in two is the whole run, another run is refused, damage is reported."""

import functools
import os
import random

from aecourse import losses
from aecourse.checkpoints import load_checkpoint
from aecourse.data import Batches
from aecourse.history import History
from aecourse.models import Autoencoder, mlp_decoder, mlp_encoder
from aecourse.training import fit

import numpy as np
import pytest
import torch
from test_training import X, denoise, make, reconstruct, run, same_weights
from torch.utils.data import DataLoader, TensorDataset


def test_run_cut_in_two_ends_bit_for_bit_where_one_run_ends(tmp_path):
    path = tmp_path / "c.pt"
    whole, history = run(epochs=6, schedule="constant")
    run(epochs=3, schedule="constant", checkpoint=path)
    random.seed(99), np.random.seed(99), torch.manual_seed(99)
    model, train = make(7), Batches(X, batch_size=64)  # all else must come from the file
    resumed = fit(model, denoise, train, 6, schedule="constant", checkpoint=path, progress=False)
    assert same_weights(whole, model) and dict(resumed) == dict(history)
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_schedule_goes_on_where_it_was(tmp_path):
    def interrupt(epoch, model, history):
        if epoch == 2 and not stopped:
            stopped.append(1)
            raise KeyboardInterrupt

    stopped = [1]
    whole, _ = run(epochs=6, after_epoch=interrupt)
    stopped.clear()
    run(epochs=6, after_epoch=interrupt, checkpoint=tmp_path / "c.pt")
    model, _ = run(epochs=6, model=make(7), checkpoint=tmp_path / "c.pt")
    assert same_weights(whole, model)


def test_loader_with_its_own_generator_resumes_too(tmp_path):
    def loader():
        generator = torch.Generator().manual_seed(5)
        return DataLoader(TensorDataset(X), batch_size=64, shuffle=True, generator=generator)

    whole, _ = run(train=loader(), epochs=4, schedule="constant")
    path = tmp_path / "c.pt"
    run(train=loader(), epochs=2, schedule="constant", checkpoint=path)
    model, _ = run(train=loader(), epochs=4, schedule="constant", checkpoint=path, model=make(3))
    assert same_weights(whole, model)


class Weighted:
    def __init__(self, beta):
        self.beta = beta

    def __call__(self, model, x):
        return self.beta * denoise(model, x)


SETTINGS = {"beta": 1.0}


def from_a_dict(model, x):
    return SETTINGS["beta"] * denoise(model, x)


def helper(model, x):
    return denoise(model, x)


def through_a_helper(model, x):
    return helper(model, x)


def with_sigma(sigma):
    def noisy(model, x):
        return losses.squared_error(model(x + sigma * torch.randn_like(x)), x)

    return noisy


def weighted(model, x, beta):
    return beta * denoise(model, x)


PAIRS = {
    "partial": [functools.partial(weighted, beta=beta) for beta in (1.0, 50.0)],
    "callable object": [Weighted(1.0), Weighted(50.0)],
    "closure": [with_sigma(0.1), with_sigma(0.2)],
    "function": [denoise, reconstruct],
}


@pytest.mark.parametrize("kind", PAIRS)
def test_another_loss_is_another_run(tmp_path, kind):
    one, other = PAIRS[kind]
    run(one, checkpoint=tmp_path / "c.pt")
    run(one, checkpoint=tmp_path / "c.pt")
    with pytest.raises(ValueError, match="another run: losses differ"):
        run(other, checkpoint=tmp_path / "c.pt")


def test_edited_setting_or_helper_is_another_run(tmp_path, monkeypatch):
    run(from_a_dict, checkpoint=tmp_path / "a.pt")
    run(through_a_helper, checkpoint=tmp_path / "b.pt")
    monkeypatch.setitem(SETTINGS, "beta", 50.0)
    monkeypatch.setitem(globals(), "helper", lambda model, x: 2 * denoise(model, x))
    for loss, name in ((from_a_dict, "a.pt"), (through_a_helper, "b.pt")):
        with pytest.raises(ValueError, match="losses differ"):
            run(loss, checkpoint=tmp_path / name)


OTHER_RUNS = [
    ({"model": Autoencoder(mlp_encoder((12,), [17], 3), mlp_decoder(3, [17], (12,)))}, "model"),
    ({"schedule": "cosine"}, "schedule"),
    ({"lr": 1e-2}, "optimizers"),
    ({"train": Batches(X, batch_size=32)}, "batches"),
    ({"train": Batches(X, batch_size=64, seed=1)}, "batches"),
    ({"train": Batches(X + 1, batch_size=64)}, "batches"),
]


@pytest.mark.parametrize("options, what", OTHER_RUNS)
def test_other_model_data_or_settings_are_another_run(tmp_path, options, what):
    path = tmp_path / "c.pt"
    run(checkpoint=path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match=f"another run: .*{what}"):
        run(checkpoint=path, **options)
    assert path.read_bytes() == content


def test_comments_layout_and_devices_make_no_other_run(tmp_path):
    sources = (
        "def loss(model, x):\n    return squared_error(model(x.to(DEVICE)), x)",
        "# edited\ndef loss(model, x):  # why\n    return squared_error(\n model(x.to(DEVICE)), x)",
    )
    for source, device in zip(sources, ("cpu", "cpu:0")):
        names = {"squared_error": losses.squared_error, "DEVICE": device}
        exec(source, names)
        history = run(names["loss"], checkpoint=tmp_path / "c.pt")[1]
    assert len(history["loss"]) == 4


def test_more_epochs_go_on_or_the_error_says_how(tmp_path):
    run(epochs=2, checkpoint=tmp_path / "a.pt", schedule="constant")
    history = run(epochs=4, checkpoint=tmp_path / "a.pt", schedule="constant")[1]
    assert len(history["denoise"]) == 4
    run(epochs=2, checkpoint=tmp_path / "b.pt")
    with pytest.raises(ValueError, match=r"a run of 2 epochs.*load_checkpoint\(path, model\)"):
        run(epochs=4, checkpoint=tmp_path / "b.pt")


def test_numpy_numbers_in_the_history_can_be_resumed(tmp_path):
    options = {"schedule": "constant", "checkpoint": tmp_path / "c.pt"}
    options["after_epoch"] = lambda *_: {"q": np.quantile([1.0, 2.0], 0.5), "n": np.int64(3)}
    run(epochs=2, **options)
    assert run(epochs=4, **options)[1]["n"] == [3.0] * 4


def test_states_of_two_gpus_are_taken_by_a_machine_with_fewer(tmp_path):
    path = tmp_path / "c.pt"
    run(epochs=2, schedule="constant", checkpoint=path)
    state = torch.load(path, weights_only=True)
    state["random"]["cuda"] = [torch.get_rng_state()] * 2
    torch.save(state, path)
    assert len(run(epochs=3, schedule="constant", checkpoint=path)[1]["denoise"]) == 3


def test_weights_alone_can_be_loaded(tmp_path):
    trained, _ = run(checkpoint=tmp_path / "c.pt")
    fresh = make(5)
    history, epochs = load_checkpoint(tmp_path / "c.pt", fresh)
    assert same_weights(trained, fresh) and epochs == 4 and isinstance(history, History)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_damaged_checkpoint_is_reported(tmp_path, content):
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        run(checkpoint=tmp_path / "c.pt")


def test_every_flipped_bit_of_the_weights_is_noticed(tmp_path):
    path = tmp_path / "c.pt"
    model, _ = run(checkpoint=path)
    good = path.read_bytes()
    weight = next(model.parameters()).detach().numpy().tobytes()
    start = good.index(weight)
    for i in range(start, start + len(weight), max(1, len(weight) // 50)):
        path.write_bytes(good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :])
        with pytest.raises(ValueError, match="checksum"):
            load_checkpoint(path, make())


def test_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    torch.save({"model": Evil()}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        run(checkpoint=tmp_path / "c.pt")
    assert not (tmp_path / "owned").exists()


def test_moments_of_another_shape_are_refused(tmp_path):
    """A fused Adam that is given them ends the process."""
    path = tmp_path / "c.pt"
    run(epochs=2, schedule="constant", checkpoint=path)
    state = torch.load(path, weights_only=True)
    state["optimizers"][0]["state"][0]["exp_avg"] = torch.zeros(3)
    torch.save(state, path)
    with pytest.raises(ValueError, match="exp_avg of parameter 0 has shape"):
        run(epochs=3, schedule="constant", checkpoint=path)


def test_write_that_fails_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch):
    path = tmp_path / "c.pt"
    run(epochs=1, schedule="constant", checkpoint=path)
    content = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        run(epochs=2, schedule="constant", checkpoint=path)
    assert path.read_bytes() == content and [p.name for p in tmp_path.iterdir()] == ["c.pt"]
