"""Batches, corruption, and the toy sets."""

from aecourse.data import (
    Batches,
    add_gaussian,
    add_noise_at,
    independent,
    mask_pixels,
    salt_and_pepper,
    subspace,
    swiss_roll,
)

import numpy as np
import pytest
import torch


def epoch(batches, number=0):
    batches.set_epoch(number)
    return torch.cat([b[0] for b in batches])


def test_every_example_comes_once_in_an_order_of_seed_and_epoch():
    x = torch.arange(1000)
    batches = Batches(x, batch_size=64)
    assert len(batches) == len(list(batches)) == 16
    assert torch.equal(epoch(batches).sort().values, x)
    assert torch.equal(epoch(batches, 3), epoch(Batches(x, batch_size=64), 3))
    assert not torch.equal(epoch(batches, 3), epoch(batches, 4))
    assert not torch.equal(epoch(batches, 3), epoch(Batches(x, batch_size=64, seed=1), 3))
    assert torch.equal(epoch(Batches(x, batch_size=64, shuffle=False)), x)


def test_order_leaves_the_global_generator_alone_and_rows_stay_together():
    state = torch.get_rng_state()
    for a, b in Batches(torch.arange(50), torch.arange(50) * 2):
        assert torch.equal(a * 2, b)
    assert torch.equal(state, torch.get_rng_state())


def test_drop_last_leaves_out_the_smaller_batch():
    batches = Batches(torch.rand(129, 3), batch_size=64, drop_last=True)
    assert len(batches) == 2 and [len(x) for (x,) in batches] == [64, 64]


def test_images_of_bytes_come_out_as_floats(tmp_path):
    images = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    np.save(tmp_path / "images.npy", images)
    mapped = torch.from_numpy(np.load(tmp_path / "images.npy", mmap_mode="c"))
    ((x, y),) = Batches(mapped, torch.tensor([5, 6], dtype=torch.uint8), shuffle=False)
    assert x.dtype == torch.float32 and y.tolist() == [5, 6]
    torch.testing.assert_close(x, torch.from_numpy(images) / 255)


@pytest.mark.parametrize(
    "tensors, message",
    [
        ((), "wants tensors"),
        (([1, 2],), "list"),
        ((torch.rand(0, 3),), "at least 1"),
        ((torch.rand(3), torch.rand(4)), "one length"),
        ((torch.tensor([[1.0], [torch.nan], [torch.inf]]),), "NaN or infinity in 2 of its 3"),
    ],
)
def test_bad_data_is_refused(tensors, message):
    with pytest.raises(ValueError, match=message):
        Batches(*tensors)


def test_noise_has_the_size_that_it_says():
    torch.manual_seed(0)
    x = torch.full((400, 1, 28, 28), 0.5)
    assert (add_gaussian(x, 0.1) - x).std() == pytest.approx(0.1, rel=0.02)
    assert add_gaussian(x, 2.0).min() == 0 and add_gaussian(x, 2.0).max() == 1
    masked = mask_pixels(x, 0.3)
    assert (masked == 0).float().mean() == pytest.approx(0.3, abs=0.01)
    assert set(masked.unique().tolist()) == {0.0, 0.5}  # what is left is not scaled up
    salted = salt_and_pepper(x, 0.4)
    assert (salted == 0).float().mean() == pytest.approx(0.2, abs=0.01)
    assert (salted == 1).float().mean() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("snr_db", [-5, 0, 20])
def test_noise_is_added_at_the_signal_to_noise_ratio(snr_db):
    waveform = torch.randn(3, 4000) * torch.tensor([[0.1], [1], [5]])
    noise = torch.randn(3, 4000)
    added = add_noise_at(waveform, noise, snr_db) - waveform
    ratio = 10 * torch.log10(waveform.pow(2).mean(1) / added.pow(2).mean(1))
    torch.testing.assert_close(ratio, torch.full((3,), float(snr_db)), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="silence"):
        add_noise_at(waveform, noise * 0, snr_db)


def test_toy_sets_are_what_they_say():
    x, basis = subspace(800, 10, 2)
    torch.testing.assert_close(x @ basis @ basis.T, x, atol=1e-4, rtol=0)
    roll, position = swiss_roll(1000)
    radius = roll[:, [0, 2]].norm(dim=1)  # of a spiral, it grows with the angle
    assert torch.corrcoef(torch.stack([radius, position]))[0, 1] > 0.999
    correlation = torch.corrcoef(independent(5000, 6).T) - torch.eye(6)
    assert correlation.abs().max() < 0.06
