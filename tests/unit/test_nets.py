"""Network parts."""

import pytest
import torch
from torch import nn

from lectool.nets import count_parameters, init_small, mlp


def test_mlp_has_an_activation_between_each_two_layers_and_none_at_the_end():
    kinds = [type(part) for part in mlp([5, 4, 3, 2], nn.Tanh)]
    assert kinds == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert [type(part) for part in mlp([5, 2], last=nn.Sigmoid)] == [nn.Linear, nn.Sigmoid]


def test_mlp_computes_what_its_formula_says():
    torch.manual_seed(0)
    net, x = mlp([5, 4, 3], last=nn.Tanh).double(), torch.randn(7, 5, dtype=torch.float64)
    first, second = net[0], net[2]
    hidden = (x @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(net(x), torch.tanh(hidden @ second.weight.T + second.bias))


def test_each_activation_is_a_module_of_its_own():
    net = mlp([2, 2, 2, 2], nn.PReLU)
    assert net[1] is not net[3]


@pytest.mark.parametrize("sizes", [[], [3], [3, 0], [-1, 2]])
def test_mlp_rejects_sizes(sizes):
    with pytest.raises(ValueError, match="expected two or more numbers, each at least 1"):
        mlp(sizes)


def test_init_small_draws_weights_and_clears_biases():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(200, 300),
        nn.Conv2d(20, 50, 5),
        nn.ConvTranspose2d(20, 50, 5),
        nn.Linear(9, 9, bias=False),
    )
    norm = nn.BatchNorm1d(3)
    assert init_small(nn.Sequential(net, norm), sd=0.3)[0] is net
    for part in net[:3]:
        assert part.weight.std().item() == pytest.approx(0.3, rel=0.03)
        assert abs(part.weight.mean().item()) < 0.01
        assert not part.bias.any()
    assert (norm.weight == 1).all()  # other parts stay as they are


def test_count_parameters_counts_what_training_changes():
    net = mlp([784, 256, 30])
    assert count_parameters(net) == 784 * 256 + 256 + 256 * 30 + 30
    net[0].requires_grad_(False)
    assert count_parameters(net) == 256 * 30 + 30
