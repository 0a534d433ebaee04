"""Assignment 6: typical wrong answers, and the words that a student must see.

An answer is the master's with one edit, ``(old, new)``, or a function of its own.
"""

WRONG = {
    "a6.cholesky": [
        ("diagonal not exponentiated", [("torch.where(on_diagonal, raw.exp(), raw)", "raw")], "needs a positive diagonal"),
        ("softplus", [("raw.exp()", "torch.nn.functional.softplus(raw)")], "exp of the raw numbers"),
        ("everything exponentiated", [("torch.where(on_diagonal, raw.exp(), raw)", "raw.exp()")], "only the diagonal is exponentiated"),
        ("upper triangle", [("return L", "return L.mT")], "fill the lower triangle"),
        ("gradient cut off", [("raw.exp(), raw)", "raw.exp(), raw).detach()")], "cuts it off"),
        ("in place", [("entries = ", "entries = raw.data.mul_(1.5) * 0 + ")], "in-place operation"),
        ("one matrix", [("return L", "return L[0]")], "one matrix for each row"),
    ],
    "a6.draw": [
        ("transposed", [("nij,nj->ni", "nji,nj->ni")], "this is Lᵀ L"),
        ("elementwise", [('torch.einsum("nij,nj->ni", L, noise)', "L.diagonal(dim1=1, dim2=2) * noise")], "the correlation is lost"),
        ("one noise for all", [("torch.randn(mean.shape,", "torch.randn(1, mean.shape[1],"), ("L, noise", "L, noise.expand_as(mean)")], "one ε for all samples"),
        ("mean forgotten", [("return mean + ", "return ")], "the mean is added"),
        ("no gradient", [("return mean + ", "return mean.detach() + ")], "cut the gradient off"),
        ("one code", [("return mean + ", "return mean[0] + "), ('L, noise)', 'L, noise).sum(0)')], "a code for each sample"),
    ],
    "a6.full_kl": [
        ("wrong sign", [("return 0.5", "return -0.5"), (" - L.diag", " + L.diag")], "a divergence is never negative"),
        ("factor ½ forgotten", [("0.5 * (squares", "(squares")], "the factor ½ is missing"),
        ("k forgotten", [("(squares - k)", "squares")], "the −k is missing"),
        ("diagonal alone", [("L.square().sum(dim=(1, 2))", "L.diagonal(dim1=1, dim2=2).square().sum(dim=1)")], "counts all squares"),
        ("log-determinant of L Lᵀ", [("- L.diagonal", "- 2 * L.diagonal")], "not twice that"),
        ("half the logarithm", [("- L.diagonal", "- 0.5 * L.diagonal")], "not half of it"),
        ("sign of the logarithm", [("- L.diagonal", "+ L.diagonal")], "the logarithm has the wrong sign"),
        ("mean over the samples", [(".log().sum(dim=1)", ".log().sum(dim=1).mean()"), ("0.5 * (squares", "0.5 * (squares.mean()")], "no mean over the samples"),
    ],
    "a6.importance_bound": [
        ("mean of the logarithms", [("return torch.logsumexp(log_weights, dim=0) - math.log(n_draws)", "return log_weights.mean(dim=0)")], "the mean of the logarithms"),
        ("log k forgotten", [(" - math.log(n_draws)", "")], "the −log k is missing"),
        ("naive", [("return torch.logsumexp(log_weights, dim=0) - math.log(n_draws)", "return log_weights.exp().mean(dim=0).log()")], "torch.logsumexp avoids both"),
        ("the other axis", [("dim=0", "dim=1")], "the mean runs over the first axis"),
        ("weights, not logarithms", [("return torch.logsumexp(log_weights, dim=0) - math.log(n_draws)", "return log_weights.exp().mean(dim=0)")], "not the mean weight"),
    ],
    "a6.beta_loss": [
        ("wrong sign", [("(price - log_likelihood)", "(log_likelihood - price)")], "this is the ELBO"),
        ("divergence subtracted", [("(price - log", "(-price - log")], "added to −log p"),
        ("sum over the samples", [(".mean()", ".sum()")], "this is the sum over the samples"),
        ("β on the likelihood", [("beta * kl", "kl"), ("price - log", "price - beta * log")], "not the likelihood"),
        ("β on both", [(".mean()", ".mean() * beta"), ("beta * kl", "kl")], "the divergence alone"),
        ("divided by β", [("beta * kl", "kl / beta")], "it does not divide"),
        ("mean forgotten", [(".mean()", "")], "the mean over the samples is missing"),
    ],
    "a6.active_units": [
        ("standard deviation", [(".var(", ".std(")], "not the standard deviation"),
        ("size of the mean", [("means.var(dim=0)", "means.square().mean(dim=0) + 0.02")], "not the size"),
        ("variance over the code", [("dim=0", "dim=1")], "counts units, not samples"),
        ("fixed threshold", [("> threshold", "> 0.01")], "the threshold is an argument"),
        ("a tensor", [("int(moving.sum())", "moving.sum()")], "turn the result into an int"),
        ("counts the silent ones", [("> threshold", "< threshold")], "above 0.01"),
    ],
}
