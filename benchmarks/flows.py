"""``lectool.flows`` beside zuko, normflows and nflows: seconds an update, and what the updates are good for.

    python benchmarks/flows.py

Same architecture, number of parameters and batches in one run, in turns; the libraries once with lectool's fused Adam
and once with torch's default one, which their guides take. A library that is not installed is left out. The last part
trains on two moons and compares test log-densities with the truth; where torchdiffeq is installed, the solvers are
held against its own.
"""

import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from lectool import data, flows, nets, random

BATCH, STEPS, ROUNDS, HIDDEN = 256, 60, 9, (64, 64)
Loss = Callable[[Tensor], Tensor]
Model = tuple[nn.Module, Loss]


def ours(flow: flows.Flow) -> Model:
    return flow, flow.loss


def with_zuko(make: Callable) -> Callable[[], Model]:
    def build() -> Model:
        import zuko

        flow = make(zuko)
        return flow, lambda x: -flow().log_prob(x).mean()

    return build


def zuko_spline(zuko) -> nn.Module:
    spline = partial(zuko.transforms.MonotonicRQSTransform, bound=3.0)
    return zuko.flows.NICE(
        2, transforms=2, hidden_features=HIDDEN, univariate=spline, shapes=[(8,), (8,), (7,)]
    )


def normflows_realnvp() -> Model:
    import normflows as nf

    base = nf.distributions.DiagGaussian(2, trainable=False)
    layers = []
    for _ in range(8):
        layers += [
            nf.flows.AffineCouplingBlock(nf.nets.MLP([1, *HIDDEN, 2], init_zeros=False)),
            nf.flows.Permute(2, mode="swap"),
        ]
    model = nf.NormalizingFlow(base, layers)
    return model, model.forward_kld


class Perceptron(nn.Module):
    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.net = nets.mlp([n_in, *HIDDEN, n_out])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.net(x)


def nflows_realnvp() -> Model:
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow
    from nflows.transforms.base import CompositeTransform
    from nflows.transforms.coupling import AffineCouplingTransform

    masks = [torch.tensor([1, -1]) * (-1) ** i for i in range(8)]
    layers = [AffineCouplingTransform(mask, Perceptron) for mask in masks]
    flow = Flow(CompositeTransform(layers), StandardNormal([2]))
    return flow, lambda x: -flow.log_prob(x).mean()


class Bare(nn.Module):
    """The least that a RealNVP's loss can do."""

    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList(nets.mlp([1, *HIDDEN, 2]) for _ in range(8))

    def loss(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        total = 0.0
        for net in self.nets:
            s, t = net(a).chunk(2, 1)
            s = torch.tanh(s)
            a, b, total = b * s.exp() + t, a, total + s
        return (0.5 * (a.square() + b.square()) - total).mean() + 1.8378770664093453


def bare() -> Model:
    model = Bare()
    return model, model.loss


CASES: dict[str, tuple[float, dict[str, Callable[[], Model]]]] = {
    "RealNVP, 8 couplings": (
        0.7,
        {
            "lectool": lambda: ours(flows.realnvp(2, 8, HIDDEN)),
            "bare loop": bare,
            "zuko": with_zuko(lambda z: z.flows.RealNVP(2, transforms=8, hidden_features=HIDDEN)),
            "normflows": normflows_realnvp,
            "nflows": nflows_realnvp,
        },
    ),
    "spline, 2 couplings": (
        0.8,
        {"lectool": lambda: ours(flows.spline_flow(2, 2, HIDDEN)), "zuko": with_zuko(zuko_spline)},
    ),
    "MAF, 5 layers": (
        0.8,
        {
            "lectool": lambda: ours(flows.maf(2, 5, HIDDEN)),
            "zuko": with_zuko(lambda z: z.flows.MAF(2, transforms=5, hidden_features=HIDDEN)),
        },
    ),
}


def update(loss: Loss, opt: torch.optim.Optimizer, x: Tensor) -> None:
    opt.zero_grad(set_to_none=True)
    loss(x).backward()
    opt.step()


def adam(model: nn.Module, lr: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr, fused=True)


def built(makes: dict[str, Callable[[], Model]]) -> dict[str, Model]:
    models = {}
    for name, make in makes.items():
        torch.manual_seed(0)
        try:
            models[name] = make()
        except ImportError:
            print(f"  {name} is not installed")
    return models


def speed(x: Tensor) -> None:
    # One thread: its own processor seconds, which a busy machine does not change. Several: the wall clock.
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for case, (target, makes) in CASES.items():
        print(case)
        models = built(makes)
        # lectool's train.fit takes the fused Adam; the libraries' guides take torch's default, so both are timed
        runs = {name: (name, adam(model)) for name, (model, _) in models.items()}
        for name, (model, _) in models.items():
            if name not in ("lectool", "bare loop"):
                runs[f"{name}, default Adam"] = (name, torch.optim.Adam(model.parameters(), 1e-3))
        times: dict[str, list[float]] = {run: [] for run in runs}
        for _ in range(ROUNDS + 1):
            for run, (name, opt) in runs.items():
                start = clock()
                for i in range(STEPS):
                    update(models[name][1], opt, x[i * BATCH : (i + 1) * BATCH])
                times[run].append((clock() - start) / STEPS)
        medians = {run: statistics.median(values[1:]) for run, values in times.items()}
        for run, (name, _) in runs.items():
            n = nets.count_parameters(models[name][0])
            print(f"  {run:23s} {1e3 * medians[run]:7.3f} ms an update, {n:,} parameters")
        peers = [name for name in models if name not in ("lectool", "bare loop")]
        for kind in ("", ", default Adam"):
            if peers:
                best = min((name + kind for name in peers), key=medians.get)
                rounds = [a / b for a, b in zip(times["lectool"][1:], times[best][1:])]
                print(f"  lectool / {best}: {medians['lectool'] / medians[best]:.3f}", end="")
                print(
                    f", median over rounds {statistics.median(rounds):.3f} (target: at most {target})"
                )


def learning(n_steps: int = 1000) -> None:
    print(f"\ntwo moons, {n_steps} updates of {BATCH}, three seeds, test log-density in nats")
    x, x_test = data.two_moons(20000, seed=0)[0], data.two_moons(5000, seed=1000)[0]
    print(f"  the truth: {data.two_moons_log_prob(x_test).mean():.4f}")
    makes = {k: v for k, v in CASES["RealNVP, 8 couplings"][1].items() if k != "bare loop"}
    found: dict[str, list[float]] = {}
    for seed in range(3):
        for name, make in makes.items():
            torch.manual_seed(seed)
            try:
                model, loss = make()
            except ImportError:
                continue
            opt = adam(model)
            for i in range(n_steps):
                for group in opt.param_groups:
                    group["lr"] = 2e-3 * (1 - i / n_steps)
                update(loss, opt, x[torch.randint(len(x), (BATCH,))])
            with torch.no_grad():
                found.setdefault(name, []).append(-loss(x_test).item())
    if "nflows" in found:
        print("  (the scales of nflows 0.14's couplings are below 1.001: its density cannot rise)")
    for name, values in found.items():
        print(
            f"  {name:10s} mean {statistics.mean(values):.4f}   seeds",
            [round(v, 3) for v in values],
        )


def solvers() -> None:
    try:
        from torchdiffeq import odeint
    except ImportError:
        print("\ntorchdiffeq is not installed")
        return
    torch.manual_seed(0)
    field, z = flows.VelocityField(2).double(), torch.randn(200, 2, dtype=torch.float64)
    with torch.no_grad():
        exact = odeint(field, z, torch.tensor([0.0, 1.0]).double(), rtol=1e-10, atol=1e-10)[-1]
        x, n = flows.dopri5(field, z, 0.0, 1.0, tolerance=1e-8)
        print(
            f"\ndopri5 beside torchdiffeq's: largest difference {(x - exact).abs().max():.1e}, {n} evaluations"
        )
        x = flows.rk4(field, z, 0.0, 1.0, 20)
        print(f"rk4 with 20 steps beside it: largest difference {(x - exact).abs().max():.1e}")


def main() -> None:
    random.seed(0)
    print(
        f"{os.cpu_count()} cores, torch {torch.__version__} with {torch.get_num_threads()} threads"
    )
    print(f"batches of {BATCH}; median of {ROUNDS} alternating rounds of {STEPS} updates\n")
    speed(data.two_moons(BATCH * STEPS)[0])
    learning()
    solvers()


if __name__ == "__main__":
    main()
