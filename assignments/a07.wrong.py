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
    ],
    "a7.generator_loss": [
        ("wrong sign", [("return -", "return ")], "the generator wants high scores"),
        ("sum for mean", [(".mean()", ".sum()")], "the mean is asked for"),
        ("detached", [("critic(fake)", "critic(fake.detach())")], "must not be detached"),
        ("logistic loss", [("return -critic(fake).mean()", "return torch.nn.functional.softplus(-critic(fake)).mean()")], "no logarithm"),
        ("mean forgotten", [(".mean()", "")], "the mean over the samples is missing"),
    ],
    "a7.interpolate": [
        ("u for each number", [("torch.rand(shape", "torch.rand(real.shape")], "not one for each number"),
        ("one u", [("torch.rand(shape", "torch.rand(1")], "one u for all samples"),
        ("Gaussian u", [("torch.rand(", "torch.randn(")], "torch.rand, not torch.randn"),
        ("generator forgotten", [("generator=generator, ", "")], "hand the generator on"),
        ("does not sum to 1", [("(1 - u) * fake", "(1 + u) * fake")], "u · real + (1 − u) · fake"),
        ("in place", [("u * real", "real.mul_(u)")], "in-place operation"),
        ("flattened", [("return u * real + (1 - u) * fake", "return (u * real + (1 - u) * fake).flatten(1)")], "as many axes as the samples"),
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
    ],
    "a7.mode_coverage": [
        ("samples for modes", [("len(nearest[close].unique())", "int(close.sum())")], "a mode counts once"),
        ("radius forgotten", [("len(nearest[close].unique())", "len(torch.cdist(centers, samples).argmin(1))")], "only within the radius"),
        ("squared distance", [("torch.cdist(samples, centers)", "torch.cdist(samples, centers).square()")], "the squared distance"),
        ("number for share", [("close.double().mean().item()", "close.sum().item()")], "this is their number"),
        ("share of the modes", [("close.double().mean().item()", "len(nearest[close].unique()) / len(centers)")], "a share of the modes"),
        ("half of the radius", [("<= radius", "<= radius / 2")], "a radius that is too small"),
        ("only the modes", [(", close.double().mean().item()", "")], "return n_modes, share"),
    ],
}
