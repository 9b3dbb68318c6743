"""Batches, noise, and the toy sets."""

import pytest
import torch

from aecourse.data import Batches, add_gaussian, add_noise_at, independent, mask_pixels, salt_and_pepper, subspace, swiss_roll


def epoch(batches, number=0):
    batches.set_epoch(number)
    return torch.cat([b[0] for b in batches])


def test_every_example_comes_once_an_epoch_in_an_order_that_follows_from_seed_and_epoch():
    x = torch.arange(1000)
    batches = Batches(x, size=64)
    assert len(batches) == len(list(batches)) == 16
    assert torch.equal(epoch(batches).sort().values, x)
    assert torch.equal(epoch(batches, 3), epoch(Batches(x, size=64), 3))
    assert not torch.equal(epoch(batches, 3), epoch(batches, 4))
    assert not torch.equal(epoch(batches, 3), epoch(Batches(x, size=64, seed=1), 3))
    assert torch.equal(epoch(Batches(x, size=64, shuffle=False)), x)


def test_the_order_does_not_touch_the_global_generator_and_rows_stay_together():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    for a, b in Batches(torch.arange(50), torch.arange(50) * 2):
        assert torch.equal(a * 2, b)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("tensors, said", [
    ((), "wants tensors"), (([1, 2],), "list"), ((torch.rand(0, 3),), "at least 1"), ((torch.rand(3), torch.rand(4)), "one length"),
    ((torch.tensor([[1.0], [torch.nan], [torch.inf]]),), "NaN or infinity in 2 of its 3 examples, first in example 1"),
])
def test_bad_data_is_refused_at_once(tensors, said):
    with pytest.raises(ValueError, match=said):
        Batches(*tensors)


def test_noise_has_the_size_that_it_says():
    torch.manual_seed(0)
    x = torch.full((400, 1, 28, 28), 0.5)
    assert (add_gaussian(x, 0.1) - x).std() == pytest.approx(0.1, rel=0.02)
    assert add_gaussian(x, 2.0).min() == 0 and add_gaussian(x, 2.0).max() == 1
    masked = mask_pixels(x, 0.3)
    assert (masked == 0).float().mean() == pytest.approx(0.3, abs=0.01)
    assert set(masked.unique().tolist()) == {0.0, 0.5}   # the survivors are not scaled up
    spoiled = salt_and_pepper(x, 0.4)
    assert (spoiled == 0).float().mean() == pytest.approx(0.2, abs=0.01)
    assert (spoiled == 1).float().mean() == pytest.approx(0.2, abs=0.01)
    assert torch.equal(x, torch.full_like(x, 0.5))


@pytest.mark.parametrize("snr_db", [-5, 0, 20])
def test_noise_at_a_signal_to_noise_ratio(snr_db):
    wave, noise = torch.randn(3, 4000) * torch.tensor([[0.1], [1], [5]]), torch.randn(3, 4000)
    added = add_noise_at(wave, noise, snr_db) - wave
    ratio = 10 * torch.log10(wave.pow(2).mean(1) / added.pow(2).mean(1))
    torch.testing.assert_close(ratio, torch.full((3,), float(snr_db)), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="silence"):
        add_noise_at(wave, noise * 0, snr_db)


def test_toy_sets_are_what_they_say():
    x, basis = subspace(800, 10, 2)
    torch.testing.assert_close(x @ basis @ basis.T, x, atol=1e-4, rtol=0)
    roll, position = swiss_roll(1000)
    assert roll.shape == (1000, 3) and position.min() >= 0 and position.max() <= 1
    radius = roll[:, [0, 2]].norm(dim=1)
    assert torch.corrcoef(torch.stack([radius, position]))[0, 1] > 0.999          # the angle grows with the radius: a spiral
    correlation = torch.corrcoef(independent(5000, 6).T) - torch.eye(6)
    assert correlation.abs().max() < 0.06
    assert torch.equal(independent(10, seed=3), independent(10, seed=3))
