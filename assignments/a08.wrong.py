"""Assignment 8: typical wrong answers, and the words that a student must see.

An answer is the master's with one edit, ``(old, new)``, or a function of its own.
"""

WRONG = {
    "a8.coupling": [
        ("scale without exp", [("torch.exp(s)", "s")], "the scale is exp(s)"),
        ("shift before scale", [("upper * torch.exp(s) + shift", "(upper + shift) * torch.exp(s)")], "first the scale, then the shift"),
        ("s and t swapped", [("s, shift = net", "shift, s = net")], "s and t are swapped"),
        ("product for the sum of logarithms", [("s.sum(dim=1)", "torch.exp(s).sum(dim=1)")], "the sum of the scales"),
        ("mean for sum", [("s.sum(dim=1)", "s.mean(dim=1)")], "this is the mean of s"),
        ("sign of the log-determinant", [("], dim=1), s.sum", "], dim=1), -s.sum")], "this is the inverse's"),
        ("shift in the log-determinant", [("s.sum(dim=1)", "(s + shift).sum(dim=1)")], "only s counts"),
        ("sum over the samples", [("s.sum(dim=1)", "s.sum()")], "not over the samples"),
        ("conditioned on the wrong half", [("net(lower)", "net(upper)")], "the first half only"),
        ("first half transformed", [("torch.cat([lower, upper * torch.exp(s) + shift]", "torch.cat([lower * torch.exp(s) + shift, upper]")], "goes through unchanged"),
        ("second half alone", [("torch.cat([lower, upper * torch.exp(s) + shift], dim=1)", "upper * torch.exp(s) + shift")], "put the two halves together"),
        ("only y", [(", s.sum(dim=1)", "")], "return y, log_det"),
        ("in place", [("upper * torch.exp(s)", "upper.mul_(torch.exp(s))")], "in-place operation"),
    ],
    "a8.coupling_inverse": [
        ("wrong order", [("(upper - shift) * torch.exp(-s)", "upper * torch.exp(-s) - shift")], "it is undone first"),
        ("sign of s", [("torch.exp(-s)", "torch.exp(s)")], "the sign of s is missing"),
        ("shift added", [("upper - shift", "upper + shift")], "has to be subtracted"),
        ("conditioned on the wrong half", [("net(lower)", "net(upper)")], "which is the same on both sides"),
        ("second half alone", [("torch.cat([lower, (upper - shift) * torch.exp(-s)], dim=1)", "(upper - shift) * torch.exp(-s)")], "x has the shape of y"),
        ("in place", [("upper - shift", "upper.sub_(shift)")], "in-place operation"),
    ],
    "a8.flow": [
        ("no flip", [(".flip(1)", "")], "the first half is never transformed"),
        ("last log-determinant only", [("volume = volume + log_det", "volume = log_det")], "are added up"),
        ("in place", [("z = x\n", "z = x.mul_(1.5) / 1.5\n")], "changes the caller's tensor"),
        ("a number for all", [("return z, volume", "return z, volume.sum()")], "one log-determinant for each sample"),
        ("only z", [("return z, volume", "return z")], "return z, log_det"),
        ("half of z", [("return z, volume", "return z[:, :2], volume")], "z has the shape of x"),
    ],
    "a8.log_density": [
        ("log-determinant subtracted", [("+ log_det", "- log_det")], "has to be added"),
        ("log-determinant forgotten", [(" + log_det", "")], "the density has the area 1"),
        ("constant forgotten", [(" + math.log(2 * math.pi)", "")], "of each number is missing"),
        ("wrong sign", [("return normal + log_det", "return -normal - log_det")], "this is minus the log-density"),
        ("factor ½ of the squares", [("-0.5 * (z.square() +", "-(z.square() + 0.5 *")], "of the squares is missing"),
        ("mean over the samples", [("return normal + log_det", "return (normal + log_det).mean()")], "sum over the numbers of a sample"),
    ],
    "a8.flow_sample": [
        ("forward for backward", [("for net in reversed(nets):\n        x = coupling_inverse(x.flip(1), net)", "for net in nets:\n        x = coupling(x, net)[0].flip(1)")], "samples need its inverse"),
        ("order of the layers", [("reversed(nets)", "nets")], "from the last to the first"),
        ("flip after the inverse", [("coupling_inverse(x.flip(1), net)", "coupling_inverse(x, net).flip(1)")], "flip, then the inverse coupling"),
        ("uniform start", [("torch.randn", "torch.rand")], "not torch.rand"),
        ("one sample", [("torch.randn(n, d", "torch.randn(1, d")], "n samples of d numbers"),
    ],
}
