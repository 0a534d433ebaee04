"""An RBM of lectool beside scikit-learn's and beside bare loops in torch, the same work in one run.

    python benchmarks/boltzmann.py

One epoch over 50,000 binarized images (MNIST, or the bundled digits), 784 visible and 128 hidden units, batches of
100, float32, two threads each (LECTOOL_THREADS sets another number); the same start and the same step size of plain
gradient descent. scikit-learn's BernoulliRBM draws its negative samples from persistent chains, at the cost of CD-1.
A bare loop writes the same free energies, and ends at the same weights to the bit; another takes the gradient by hand,
without autograd. Each row says how good the machine is: the pseudo-likelihood of 1,000 test images.
"""

import os
import statistics
from functools import partial
from typing import Any

import numpy as np
import sklearn
import torch
import torch.nn.functional as F
from _race import race
from sklearn.neural_network import BernoulliRBM
from torch import Tensor

from lectool import boltzmann, data, random, train
from lectool.boltzmann import RBM

THREADS = int(os.environ.get("LECTOOL_THREADS", 2))
N, K, BATCH, LR, ROUNDS = 50_000, 128, 100, 0.1, 3


def machine(d: int) -> RBM:
    random.seed(0)
    return RBM(d, K, sd=0.01)


def fitted(x: Tensor, **options: Any) -> RBM:
    rbm, how = machine(x.shape[1]), {"batch_size": BATCH, "lr": LR, "progress": False}
    train.fit(rbm, x, epochs=1, optimizer=torch.optim.SGD, loss=rbm.loss, **how)
    return rbm


def persistent(x: Tensor) -> RBM:
    random.seed(0)
    rbm = RBM(x.shape[1], K, sd=0.01, n_particles=BATCH)
    train.fit(rbm, x, epochs=1, optimizer=torch.optim.SGD, batch_size=BATCH, lr=LR, progress=False)
    return rbm


def draw(p: Tensor) -> Tensor:
    return (torch.rand(p.shape) < p).to(p.dtype)


def bare(x: Tensor) -> RBM:
    rbm = machine(x.shape[1])
    W, b, c = rbm.W, rbm.b, rbm.c
    opt = torch.optim.SGD(rbm.parameters(), lr=LR)

    def free_energy(v: Tensor) -> Tensor:
        return -(v @ c) - F.softplus(F.linear(v, W, b)).sum(1)

    for rows in torch.randperm(len(x)).split(BATCH):
        v = x[rows]
        with torch.no_grad():
            h = draw(F.linear(v, W, b).sigmoid())
            v_new = draw(F.linear(h, W.T, c).sigmoid())
        loss = free_energy(v).mean() - free_energy(v_new).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    return rbm


@torch.no_grad()
def by_hand(x: Tensor) -> RBM:
    rbm = machine(x.shape[1])
    W, b, c, step = rbm.W, rbm.b, rbm.c, LR / BATCH
    for rows in torch.randperm(len(x)).split(BATCH):
        v = x[rows]
        h = F.linear(v, W, b).sigmoid()
        v_new = draw(F.linear(draw(h), W.T, c).sigmoid())
        h_new = F.linear(v_new, W, b).sigmoid()
        W.addmm_(h.T, v, alpha=step).addmm_(h_new.T, v_new, alpha=-step)
        b.add_((h - h_new).sum(0), alpha=step)
        c.add_((v - v_new).sum(0), alpha=step)
    return rbm


def theirs(x: Tensor) -> RBM:
    model = BernoulliRBM(K, learning_rate=LR, batch_size=BATCH, n_iter=1, random_state=0)
    model.fit(x.numpy())
    rbm = RBM(x.shape[1], K)
    with torch.no_grad():
        for p, values in (
            (rbm.W, model.components_),
            (rbm.b, model.intercept_hidden_),
            (rbm.c, model.intercept_visible_),
        ):
            assert values.dtype == np.float32
            p.copy_(torch.as_tensor(values))
    return rbm


def main() -> None:
    torch.set_num_threads(THREADS)
    random.seed(0)
    versions = f"torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    print(f"{os.cpu_count()} cores, {THREADS} threads, {versions}")
    digits = data.digits()
    images = digits.x_train.repeat(-(-N // len(digits.x_train)), 1)[:N]
    x, test = random.bernoulli(images), random.bernoulli(digits.x_test[:1000])
    ways = {
        "lectool, CD-1": fitted,
        "lectool, PCD": persistent,
        "scikit-learn, PCD": theirs,
        "bare loop, CD-1": bare,
        "by hand, CD-1": by_hand,
    }
    print(f"\n{digits.source}: one epoch of {len(x):,} images, 784-{K}, batches of {BATCH}")
    times, machines = race({name: partial(way, x) for name, way in ways.items()}, ROUNDS)
    ours = times["lectool, CD-1"]
    for name, rbm in machines.items():
        with torch.no_grad():
            pl = boltzmann.pseudo_log_likelihood(rbm, test).mean().item()
        ratio = statistics.median(own / other for own, other in zip(ours, times[name]))
        print(
            f"  {name:18} {statistics.median(times[name]):6.2f} s   lectool takes {ratio:.2f} of its time   "
            f"pseudo-log-likelihood {pl:.1f} nats"
        )
    same = torch.equal(machines["lectool, CD-1"].W, machines["bare loop, CD-1"].W)
    print(f"  the bare loop's weights are {'the same' if same else 'others'}")


if __name__ == "__main__":
    main()
