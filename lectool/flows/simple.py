r"""Layers that need no network: affine, planar, radial, actnorm, invertible 1×1 convolution, logit."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check
from lectool.flows.core import Layer

# How far planar and radial layers keep from where they could not be undone.
EDGE = 1e-4

__all__ = ["ActNorm", "Affine", "InvertibleConv", "Logit", "Planar", "Radial"]


def per_sample(log_det: Tensor, like: Tensor) -> Tensor:
    r"""The same number for each sample of a batch, shape (n,)."""
    return log_det.expand(len(like))


class Affine(Layer):
    r""":math:`x = L z + b` with a lower triangular L whose diagonal is positive: any Gaussian.

    Arguments:
        d: numbers in a sample, ≥ 1.
    """

    def __init__(self, d: int):
        super().__init__()
        check.at_least(1, d=d)
        self.log_diagonal = nn.Parameter(torch.zeros(d))
        self.below = nn.Parameter(torch.zeros(d, d))
        self.b = nn.Parameter(torch.zeros(d))

    @property
    def L(self) -> Tensor:
        r"""Shape (d, d)."""
        return self.below.tril(-1) + self.log_diagonal.exp().diag()

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z @ self.L.T + self.b, per_sample(self.log_diagonal.sum(), z)

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = torch.linalg.solve_triangular(self.L, (x - self.b).T, upper=False).T
        return z, per_sample(-self.log_diagonal.sum(), x)


class Planar(Layer):
    r"""Pushes along u, as far as w and b say: :math:`x = z + u \tanh(w^\top z + b)`.

    .. math:: \det \frac{\partial x}{\partial z} = 1 + u^\top w \, \bigl(1 - \tanh^2(w^\top z + b)\bigr)

    It is invertible where :math:`u^\top w > -1`, which a shift of u along w ensures, with a little room so that the
    log-determinant stays finite. The inverse has no closed form, but is the root of an increasing function of one
    number, :math:`w^\top z`.

    Arguments:
        d: numbers in a sample, ≥ 1.

    References:
        Rezende & Mohamed (2015), Variational inference with normalizing flows, section 4.1 and appendix.
    """

    def __init__(self, d: int):
        super().__init__()
        check.at_least(1, d=d)
        self.w = nn.Parameter(torch.randn(d) / d**0.5)
        self.free_u = nn.Parameter(0.1 * torch.randn(d))
        self.b = nn.Parameter(torch.zeros(()))

    @property
    def u(self) -> Tensor:
        r"""The direction of the push, with :math:`u^\top w > -1`."""
        product = self.free_u @ self.w
        shift = F.softplus(product) - 1 + EDGE - product
        return self.free_u + shift * self.w / self.w.square().sum().clamp(min=1e-12)

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u, h = self.u, torch.tanh(z @ self.w + self.b)
        return z + h[:, None] * u, torch.log1p((u @ self.w) * (1 - h.square()))

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u = self.u
        slope, target = u @ self.w, x @ self.w
        # a + slope · tanh(a + b) = target, by bisection, then Newton
        with torch.no_grad():
            low, high = target - slope.abs(), target + slope.abs()
            for _ in range(30):
                a = (low + high) / 2
                above = a + slope * torch.tanh(a + self.b) > target
                low, high = torch.where(above, low, a), torch.where(above, a, high)
            for _ in range(4):
                h = torch.tanh(a + self.b)
                a = a - (a + slope * h - target) / (1 + slope * (1 - h.square()))
            stretch = 1 + slope * (1 - torch.tanh(a + self.b).square())
        # One more step, which carries the gradient.
        a = a - (a + slope * torch.tanh(a + self.b) - target) / stretch
        h = torch.tanh(a + self.b)
        return x - h[:, None] * u, -torch.log1p(slope * (1 - h.square()))


class Radial(Layer):
    r"""Pushes away from a point, or towards it.

    .. math:: x = z + \frac{\beta}{\alpha + r} (z - z_0), \qquad r = \lVert z - z_0 \rVert

    .. math:: \det \frac{\partial x}{\partial z} = \Bigl(1 + \frac{\beta}{\alpha + r}\Bigr)^{d - 1}
        \Bigl(1 + \frac{\alpha \beta}{(\alpha + r)^2}\Bigr)

    It is invertible for :math:`\beta > -\alpha`; the inverse solves a quadratic equation for r.

    Arguments:
        d: numbers in a sample, ≥ 1.

    References:
        Rezende & Mohamed (2015), Variational inference with normalizing flows, section 4.1 and appendix.
    """

    def __init__(self, d: int):
        super().__init__()
        check.at_least(1, d=d)
        self.z0 = nn.Parameter(torch.randn(d))
        self.free_alpha = nn.Parameter(torch.zeros(()))
        self.free_beta = nn.Parameter(torch.full((), 0.55) + 0.1 * torch.randn(()))

    @property
    def alpha(self) -> Tensor:
        r"""The radius at which the push begins to fade, > 0."""
        return F.softplus(self.free_alpha) + EDGE

    @property
    def beta(self) -> Tensor:
        r"""The strength of the push, > −α."""
        return F.softplus(self.free_beta) - (1 - EDGE) * self.alpha

    def _log_det(self, r: Tensor, d: int) -> Tensor:
        alpha, beta = self.alpha, self.beta
        sideways = torch.log1p(beta / (alpha + r))
        return (d - 1) * sideways + torch.log1p(alpha * beta / (alpha + r).square())

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        away = z - self.z0
        r = away.norm(dim=1)
        x = z + (self.beta / (self.alpha + r))[:, None] * away
        return x, self._log_det(r, z.shape[1])

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        away = x - self.z0
        R, alpha, beta = away.norm(dim=1), self.alpha, self.beta
        half = (R - alpha - beta) / 2  # r² − 2 · half · r − alpha · R = 0
        root = (half.square() + alpha * R + 1e-30).sqrt()
        r = torch.where(half > 0, half + root, alpha * R / (root - half))
        z = self.z0 + away / (1 + beta / (alpha + r))[:, None]
        return z, -self._log_det(r, x.shape[1])


class ActNorm(Layer):
    r"""One scale and one shift a channel, set by the first batch so that z has mean 0 and variance 1.

    After that batch they are ordinary parameters. On vectors each number is a channel. A channel that does not vary in
    that batch, as in a batch of one vector, keeps its scale.

    Arguments:
        channels: size of axis 1, ≥ 1.

    References:
        Kingma & Dhariwal (2018), Glow: generative flow with invertible 1×1 convolutions.
    """

    started: Tensor

    def __init__(self, channels: int):
        super().__init__()
        check.at_least(1, channels=channels)
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("started", torch.tensor(False))

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        s, b = (p.view(-1, *[1] * (z.ndim - 2)) for p in (self.log_scale, self.shift))
        n_places = z[0, 0].numel()
        return z * s.exp() + b, per_sample(n_places * self.log_scale.sum(), z)

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.training and not self.started:
            self.start(x.detach())
        s, b = (p.view(-1, *[1] * (x.ndim - 2)) for p in (self.log_scale, self.shift))
        n_places = x[0, 0].numel()
        return (x - b) * (-s).exp(), per_sample(-n_places * self.log_scale.sum(), x)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        r"""Sets scale and shift by a batch."""
        flat = x.transpose(0, 1).flatten(1)
        self.shift.copy_(flat.mean(1))
        sd = flat.std(1, correction=0)
        varies = sd > 1e-3 * flat.abs().amax(1).clamp(min=1e-3)
        self.log_scale.copy_(torch.where(varies, sd, torch.ones_like(sd)).log())
        self.started.fill_(True)


class InvertibleConv(Layer):
    r"""Mixes channels by one square matrix, the same at every place: :math:`x = P L U z`.

    P is a fixed permutation, L has ones on its diagonal, and U's diagonal holds fixed signs times positive
    numbers, so that :math:`\log \lvert \det \rvert = \sum_j \log \lvert U_{jj} \rvert` costs nothing. The
    start is a random rotation. On vectors, this is a linear layer.

    Arguments:
        channels: size of axis 1, ≥ 1.

    References:
        Kingma & Dhariwal (2018), Glow: generative flow with invertible 1×1 convolutions, section 3.2.
    """

    P: Tensor
    sign: Tensor

    def __init__(self, channels: int):
        super().__init__()
        check.at_least(1, channels=channels)
        Q = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64)).Q
        P, L, U = (m.to(torch.get_default_dtype()) for m in torch.linalg.lu(Q))
        self.below, self.above = nn.Parameter(L.tril(-1)), nn.Parameter(U.triu(1))
        self.log_diagonal = nn.Parameter(U.diag().abs().log())
        self.register_buffer("P", P)
        self.register_buffer("sign", U.diag().sign())

    def factors(self) -> tuple[Tensor, Tensor]:
        r"""L and U, each of shape (channels, channels)."""
        L = self.below.tril(-1) + torch.eye(len(self.sign)).to(self.below)
        return L, self.above.triu(1) + (self.sign * self.log_diagonal.exp()).diag()

    @property
    def W(self) -> Tensor:
        r"""The matrix P L U."""
        L, U = self.factors()
        return self.P @ L @ U

    def _log_det(self, like: Tensor) -> Tensor:
        return per_sample(like[0, 0].numel() * self.log_diagonal.sum(), like)

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = torch.einsum("ij,nj...->ni...", self.W, z)
        return x, self._log_det(z)

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        L, U = self.factors()
        half = torch.linalg.solve_triangular(L, self.P.T, upper=False, unitriangular=True)
        W_inverse = torch.linalg.solve_triangular(U, half, upper=True)
        return torch.einsum("ij,nj...->ni...", W_inverse, x), -self._log_det(x)


class Logit(Layer):
    r"""From the whole line to pixels: :math:`x = (\sigma(z) - \alpha) / (1 - 2 \alpha)`, each number by itself.

    Its inverse is :math:`z = \operatorname{logit}(\alpha + (1 - 2 \alpha) x)` for x in [0, 1], and a little beyond.

    Arguments:
        alpha: in (0, 0.5): keeps the logit finite at 0 and at 1.

    Raises:
        ValueError: if alpha is out of range; when used, if pixels lie where the logit has no value.

    References:
        Dinh, Sohl-Dickstein & Bengio (2017), Density estimation using Real NVP, section 4.1.
    """

    def __init__(self, alpha: float = 0.05):
        super().__init__()
        check.inside("(0, 0.5)", alpha=alpha)
        self.alpha = alpha

    def _log_det(self, z: Tensor) -> Tensor:
        log_slope = F.logsigmoid(z) + F.logsigmoid(-z)
        size = torch.tensor(1 - 2 * self.alpha, dtype=z.dtype).log()
        return (log_slope - size.to(z)).flatten(1).sum(1)

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha), self._log_det(z)

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        edge = self.alpha / (1 - 2 * self.alpha)
        low, high = (v.item() for v in torch.aminmax(x.detach()))
        if low < -edge or high > 1 + edge:
            raise ValueError(f"x lies in [{low:.4g}, {high:.4g}]; expected pixels in [0, 1]")
        z = torch.logit(self.alpha + (1 - 2 * self.alpha) * x)
        return z, -self._log_det(z)
