"""aecourse/compression.py: what is written is what is read, and small files are small."""

from aecourse.compression import read_codes, through_image_file, write_codes

import pytest
import torch


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (300, 64)])
def test_codes_come_back_as_they_were_written(shape):
    q = torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(0)).float()
    back = read_codes(write_codes(q), shape[1])
    assert torch.equal(back, q) and back.dtype == torch.float32


def test_codes_that_do_not_fit_into_bytes_are_refused():
    for wrong in (0.5, 128.0, -129.0, float("nan")):
        with pytest.raises(ValueError, match="round and clamp"):
            write_codes(torch.tensor([[1.0, wrong]]))


def test_file_is_small_where_few_values_are_frequent():
    g = torch.Generator().manual_seed(0)
    rare = (torch.rand(1000, 8, generator=g) < 0.05).float()
    even = torch.randint(-128, 128, (1000, 8), generator=g).float()
    assert len(write_codes(rare)) < 0.1 * len(write_codes(even))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("shape", [(1, 1, 28, 28), (6, 1, 16, 24), (7, 1, 9, 5)])
def test_images_come_back_in_their_order_and_a_higher_quality_is_nearer(kind, shape):
    x = torch.linspace(0.1, 0.9, shape[0])[:, None, None, None].expand(shape).contiguous()
    x[..., 2:4, :] = 1 - x[..., 2:4, :]
    errors = []
    for quality in (5, 95):
        size, x_hat = through_image_file(x, kind, quality)
        assert x_hat.shape == x.shape and x_hat.min() >= 0 and x_hat.max() <= 1 and size > 0
        errors.append((x_hat - x).abs().mean())
    assert errors[1] < 0.02 and errors[1] < errors[0] + 0.001


def test_one_sheet_costs_less_than_a_file_for_each_image():
    x = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    together, _ = through_image_file(x, "JPEG", 5)
    alone = sum(through_image_file(image[None], "JPEG", 5)[0] for image in x)
    assert together < 0.5 * alone
