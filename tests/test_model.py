"""Models: shapes, free logits, and a decoder that starts at the mean image."""

from functools import partial

import pytest
import torch
from torch import nn

from gsvae.errors import UserError
from gsvae.model import MLP, CategoricalVAE, Conv

SHAPES = [(1, 28, 28), (1, 32, 32), (3, 32, 32)]


MODELS = [
    *(partial(MLP, (1, 8, 8), hidden) for hidden in ([], [16], [32, 16])),
    *(partial(Conv, shape, [4, 8], 16) for shape in SHAPES),
    partial(Conv, (1, 16, 16), [4, 8, 8], 16),
]


@pytest.fixture(params=[(m, prior) for m in MODELS for prior in ("uniform", "learned")], ids=str)
def model(request):
    make, prior = request.param
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield make(n_latent=4, n_cat=5, prior=prior)


def test_shapes(model):
    x_BD = torch.rand(3, model.n_pixels)
    logits_BLK = model.encode(x_BD)
    assert logits_BLK.shape == (3, 4, 5)
    for leading in [(3,), (2, 3), (2, 1, 3)]:
        z = torch.rand(*leading, 4, 5)
        pixel_logits = model.decode(z)
        assert pixel_logits.shape == (*leading, model.n_pixels)
        flat = model.decode(z.flatten(0, -3)).view(*leading, -1)
        torch.testing.assert_close(pixel_logits, flat)
    assert model.prior_logits_LK.shape == (4, 5)


def test_every_parameter_is_trained(model):
    z = model.encode(torch.rand(3, model.n_pixels)).softmax(-1)
    (model.decode(z).square().sum() + (model.prior_logits_LK * z).sum()).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


@torch.no_grad()
@pytest.mark.parametrize("shift", [-5.0, 5.0])
def test_logits_and_pixels_may_have_either_sign(model, shift):
    """Nothing follows the last layer: its bias moves the output by as much, below zero as above."""
    for part, given in ((model.encoder, torch.rand(9, model.n_pixels)), (model.decoder, torch.rand(9, 20))):
        before = part(given)
        last = [layer for layer in part.modules() if hasattr(layer, "bias")][-1]
        last.bias += shift
        torch.testing.assert_close(part(given), before + shift)
        assert (part(given) * shift > 0).all()


def test_the_prior_is_uniform_until_it_learns():
    for prior in ("uniform", "learned"):
        model = MLP((1, 8, 8), [16], n_latent=4, n_cat=5, prior=prior)
        assert (model.prior_logits_LK == 0).all()
        assert ("prior_logits_LK" in dict(model.named_parameters())) == (prior == "learned")
        assert "prior_logits_LK" in model.state_dict()


def test_no_hidden_layer_is_one_linear_map_each_way():
    model = MLP((1, 8, 8), [], n_latent=4, n_cat=5)
    for part in (model.encoder, model.decoder):
        assert [type(layer) for layer in part] == [nn.Linear]
    x, y = torch.rand(2, 1, 64).double()
    model.double()
    middle = (model.encode(x) + model.encode(y)) / 2
    torch.testing.assert_close(model.encode((x + y) / 2), middle)


def test_hidden_widths_are_mirrored():
    model = MLP((1, 28, 28), [512, 256], n_latent=30, n_cat=10)
    widths = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]
    assert widths == [(784, 512), (512, 256), (256, 300), (300, 256), (256, 512), (512, 784)]


def without_weights(model):
    for layer in model.decoder.modules():
        if isinstance(layer, (nn.Linear, nn.ConvTranspose2d)):
            nn.init.zeros_(layer.weight)
    return model


def test_an_mlp_starts_at_the_mean_image():
    model = without_weights(MLP((1, 8, 8), [16], n_latent=4, n_cat=5))
    mean_D = torch.linspace(0.0, 1.0, 64)
    model.start_at_mean(mean_D)
    pixel_logits = model.decode(torch.rand(2, 4, 5))
    torch.testing.assert_close(pixel_logits.sigmoid(), mean_D.clamp(0.01, 0.99).expand(2, 64))
    torch.testing.assert_close(pixel_logits[0, 20], torch.logit(mean_D[20]))
    assert pixel_logits.abs().max().item() == pytest.approx(4.595, abs=0.001)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_convolution_starts_at_the_mean_of_each_channel(shape):
    model = without_weights(Conv(shape, channels=[4, 8], hidden=16, n_latent=4, n_cat=5))
    mean_CHW = torch.rand(shape) * 0.1 + 0.2 * torch.arange(1, shape[0] + 1).view(-1, 1, 1)
    model.start_at_mean(mean_CHW.flatten())
    started = model.decode(torch.rand(1, 4, 5)).sigmoid().view(shape)
    torch.testing.assert_close(started, mean_CHW.mean((1, 2), keepdim=True).expand(shape))


class Decoded(CategoricalVAE):
    """A user's model with a decoder of their own."""

    def __init__(self, decoder):
        super().__init__((1, 8, 8), n_latent=4, n_cat=5)
        self.encoder, self.decoder = nn.Linear(64, 20), decoder


@pytest.mark.parametrize(
    "decoder",
    [
        nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 64, bias=False)),
        nn.Sequential(nn.Linear(20, 64, bias=False)),
        nn.Sequential(
            nn.Linear(20, 64), nn.Unflatten(1, (4, 4, 4)), nn.PixelShuffle(2), nn.Conv2d(1, 1, 1, bias=False)
        ),
        nn.Flatten(),
    ],
    ids=["hidden bias only", "no bias at all", "bias before a convolution", "no parameters"],
)
def test_without_an_output_bias_nothing_is_set(decoder):
    model = Decoded(decoder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.start_at_mean(torch.full((64,), 0.3))
    assert model.output_bias() is None
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((1, 8, 8), [32, 64]),
        ((1, 28, 28), [8, 8, 8]),
        ((1, 32, 30), [8, 8]),
        ((1, 28, 8), [8]),
        ((1, 28, 28), []),
    ],
)
def test_images_that_a_convolution_cannot_take(shape, channels):
    with pytest.raises(UserError) as caught:
        Conv(shape, channels=channels, hidden=16, n_latent=4, n_cat=5)
    message = str(caught.value)
    assert f"model.channels={channels}" in message
    assert f"{shape[1]}x{shape[2]}" in message
    assert "28x28" in message
    assert "\n" not in message
