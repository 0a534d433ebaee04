"""Assignment 7: typical wrong answers, and the words that a student must see.

An answer is the master's with one edit, ``(old, new)``, or a function of its own.
"""

WRONG = {
    "a7.critic_loss": [
        ("wrong sign", [("return on_fake - on_real", "return on_real - on_fake")], "the sign is turned around"),
        ("sums for means", [(".mean()", ".sum()")], "sums, where means are asked for"),
        ("added", [("on_fake - on_real", "on_fake + on_real")], "subtracted, not added"),
        ("forgotten detach", [("fake.detach()", "fake")], "detach() the fake samples"),
        ("scores detached", [("critic(fake.detach()).mean()", "critic(fake).detach().mean()")], "not the scores"),
        ("logistic loss", [("return on_fake - on_real", "return torch.nn.functional.softplus(on_fake - on_real)")], "no logarithm"),
        ("mean forgotten", [("critic(real).mean()", "critic(real)")], "the mean over the samples is missing"),
        ("item", [("return on_fake - on_real", "return (on_fake - on_real).item()")], "cuts the gradient off"),
        ("no gradient", [("on_real = critic(real).mean()", "with torch.no_grad():\n        on_real = critic(real).mean()")], "not the scores"),
        ("number of samples typed in", [("critic(fake.detach()).mean()", "critic(fake.detach()).sum() / 3")], "minus mean score of the real ones"),
        ("the first sample for all", [(".mean()", "[0]")], "one sample stands for all"),
        ("backward inside", [("return on_fake - on_real", "(on_fake - on_real).backward(retain_graph=True)\n    return on_fake - on_real")], "leaves gradients in the critic"),
        ("samples in place", [("critic(real)", "critic(real.mul_(1.5) / 1.5)")], "in-place operation"),
    ],
    "a7.generator_loss": [
        ("wrong sign", [("return -", "return ")], "the generator wants high scores"),
        ("sum for mean", [(".mean()", ".sum()")], "the mean is asked for"),
        ("detached", [("critic(fake)", "critic(fake.detach())")], "must not be detached"),
        ("logistic loss", [("return -critic(fake).mean()", "return torch.nn.functional.softplus(-critic(fake)).mean()")], "no logarithm"),
        ("mean forgotten", [(".mean()", "")], "the mean over the samples is missing"),
        ("item", [("critic(fake).mean()", "critic(fake).mean().item()")], "cuts the gradient off"),
        ("number of samples typed in", [(".mean()", ".sum() / 2")], "minus the mean score"),
        ("the first sample for all", [(".mean()", "[0]")], "one sample stands for all"),
        ("half of the gradient", [("critic(fake)", "critic((fake + fake.detach()) / 2)")], "✗"),
        ("backward inside", [("return -critic(fake).mean()", "loss = -critic(fake).mean()\n    loss.backward(retain_graph=True)\n    return loss")], "leaves gradients in the critic"),
        ("samples in place", [("critic(fake)", "critic(fake.data.mul_(1.5) / 1.5 + fake * 0)")], "in-place operation"),
    ],
    "a7.interpolate": [
        ("u for each number", [("torch.rand(shape", "torch.rand(real.shape")], "not one for each number"),
        ("one u", [("torch.rand(shape", "torch.rand(1")], "one u for all samples"),
        ("Gaussian u", [("torch.rand(", "torch.randn(")], "torch.rand, not torch.randn"),
        ("generator forgotten", [("generator=generator, ", "")], "hand the generator on"),
        ("does not sum to 1", [("(1 - u) * fake", "(1 + u) * fake")], "u · real + (1 − u) · fake"),
        ("in place", [("u * real", "real.mul_(u)")], "in-place operation"),
        ("flattened", [("return u * real + (1 - u) * fake", "return (u * real + (1 - u) * fake).flatten(1)")], "as many axes as the samples"),
        ("the same u at every call", [("generator=generator", "generator=torch.Generator().manual_seed(0)")], "no seed belongs into the function"),
        ("global numbers, reseeded", [("u = ", "torch.manual_seed(0)\n    u = "), ("generator=generator, ", "")], "no seed belongs into the function"),
        ("right variance, two values", [("return u * real", "u = 0.5 + (u > 0.5).to(real) / 12**0.5 - 1 / 48**0.5\n    return u * real")], "torch.rand draws uniform numbers"),
        ("a normal u with the right variance", [("torch.rand(shape, generator=generator, dtype=real.dtype)", "(0.5 + torch.randn(shape, generator=generator, dtype=real.dtype) / 12**0.5).clamp(0, 1)")], "torch.rand draws uniform numbers"),
        ("the first pair for all", [("return u * real + (1 - u) * fake", "return u * real[:1] + (1 - u) * fake[:1]")], "u · real + (1 − u) · fake"),
        ("axes typed in", [("return u * real", "real, fake = real[..., :2], fake[..., :2]\n    return u * real")], "one point for each pair"),
    ],
    "a7.gradient_penalty": [
        ("graph forgotten", [(", create_graph=True", "")], "differentiated once more"),
        ("not squared", [(".square().mean()", ".abs().mean()")], "enters squared"),
        ("squared norm", [("norm(dim=1)", "square().sum(dim=1)")], "not its square"),
        ("norm not compared", [("lengths - 1", "lengths")], "the norm is compared with 1"),
        ("sum for mean", [("square().mean()", "square().sum()")], "a sum over the samples"),
        ("one norm for the batch", [("norm(dim=1)", "norm()")], "one norm for the whole batch"),
        ("one side", [("(lengths - 1)", "(lengths - 1).clamp(min=0)")], "no clamp at 1"),
        ("images not flattened", [("flatten(1).norm(dim=1)", "norm(dim=1)")], "flatten(1) the gradients"),
        ("sum of absolute values", [("norm(dim=1)", "abs().sum(dim=1)")], "the root of the sum of squares"),
        ("mean forgotten", [(".square().mean()", ".square()")], "the mean over the samples is missing"),
        ("item", [(".square().mean()", ".square().mean().item()")], "cuts the gradient off"),
        ("the first sample for all", [(".square().mean()", ".square()[0]")], "one sample stands for all"),
        ("mean of the slopes first", [("(lengths - 1).square().mean()", "(lengths.mean() - 1).square()")], "the mean over the samples of"),
        ("number of samples typed in", [(".square().mean()", ".square().sum() / 4")], "the mean over the samples of"),
        ("gradients left in the critic", [("return (lengths", "critic(points).sum().backward()\n    return (lengths")], "leaves gradients in the critic"),
        ("caller's points ask for a gradient", [("x.detach().requires_grad_()", "x.requires_grad_()")], "in-place operation"),
        ("half of the norm detached", [("(lengths - 1)", "((lengths + lengths.detach()) / 2 - 1)")], "differentiated once more"),
    ],
    "a7.mode_coverage": [
        ("samples for modes", [("len(nearest[close].unique())", "int(close.sum())")], "a mode counts once"),
        ("radius forgotten", [("len(nearest[close].unique())", "len(torch.cdist(centers, samples).argmin(1))")], "only within the radius"),
        ("squared distance", [("torch.cdist(samples, centers)", "torch.cdist(samples, centers).square()")], "the squared distance"),
        ("number for share", [("close.double().mean().item()", "close.sum().item()")], "this is their number"),
        ("share of the modes", [("close.double().mean().item()", "len(nearest[close].unique()) / len(centers)")], "a share of the modes"),
        ("half of the radius", [("<= radius", "<= radius / 2")], "at most the radius"),
        ("only the modes", [(", close.double().mean().item()", "")], "return n_modes, share"),
        ("number of modes typed in", [("close.double().mean().item()", "close.sum().item() / 6")], "out of all"),
        ("radius typed in", [("<= radius", "<= 0.5")], "✗"),
        ("eight modes", [("len(nearest[close].unique())", "min(8, len(nearest.unique()))")], "✗"),
        ("covered by a majority", [("len(nearest[close].unique())", "int((torch.bincount(nearest[close], minlength=len(centers)) > len(samples) / len(centers)).sum())")], "a sample within the radius"),
        ("distance of the first center", [("torch.cdist(samples, centers).min(dim=1)", "torch.cdist(samples, centers[:1]).min(dim=1)")], "✗"),
        ("in place", [("distances, nearest = ", "samples.mul_(1.5)\n    samples = samples / 1.5\n    distances, nearest = ")], "in-place operation"),
    ],
}

# Other right ways, which a check must accept.
RIGHT = {
    "a7.critic_loss": [
        ("fake samples under no_grad-free clone", "def critic_loss(critic, real, fake):\n    scores = critic(torch.cat([real, fake.clone().detach()]))\n    n = len(real)\n    return scores[n:].sum() / len(fake) - scores[:n].sum() / n"),
    ],
    "a7.generator_loss": [
        ("mean of negative scores", "def generator_loss(critic, fake):\n    return torch.mean(-critic(fake))"),
    ],
    "a7.interpolate": [
        ("lerp", "def interpolate(real, fake, generator=None):\n    u = torch.rand(len(real), generator=generator, dtype=real.dtype).reshape(-1, *[1] * (real.ndim - 1))\n    return torch.lerp(fake, real, u)"),
        ("u on the other side", [("u * real + (1 - u) * fake", "(1 - u) * real + u * fake")]),
    ],
    "a7.gradient_penalty": [
        ("one sample after the other", "def gradient_penalty(critic, x):\n    total = 0\n    for row in x:\n        point = row[None].clone().requires_grad_(True)\n        (g,) = torch.autograd.grad(critic(point)[0], point, create_graph=True)\n        total = total + (g.square().sum().sqrt() - 1) ** 2\n    return total / len(x)"),
    ],
    "a7.mode_coverage": [
        ("loops", "def mode_coverage(samples, centers, radius):\n    near = [[float(torch.linalg.vector_norm(s - c)) <= radius for c in centers] for s in samples]\n    covered = sum(any(row[j] for row in near) for j in range(len(centers)))\n    return covered, sum(any(row) for row in near) / len(samples)"),
    ],
}
