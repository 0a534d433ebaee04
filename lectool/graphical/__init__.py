r"""Chapter 07: graphical models: networks with tables, random fields, factor graphs, chains and grids."""

from lectool.graphical.checkerboard import (
    checkerboard_links,
    half_sweep,
    pack,
    signed_uniform,
    unpack,
)
from lectool.graphical.crf import LinearChainCRF, chain_marginals, chain_mode, chain_partition
from lectool.graphical.curve import BayesianCurve, powers
from lectool.graphical.directed import (
    BayesianNetwork,
    d_separated,
    from_joint,
    minimal_graph,
    moral_graph,
    open_path,
    random_graph,
    random_network,
    topological_order,
)
from lectool.graphical.factorgraph import FactorGraph
from lectool.graphical.ising import (
    Ising,
    all_spins,
    critical_coupling,
    denoiser,
    from_binary,
    onsager_magnetization,
)
from lectool.graphical.tables import Joint, product
from lectool.graphical.undirected import (
    MarkovRandomField,
    canonical_potentials,
    cliques,
    factorization_gap,
    is_markov,
    markov_blanket,
    maximal_cliques,
    moussouris,
    separated,
)

__all__ = [
    "BayesianCurve",
    "BayesianNetwork",
    "FactorGraph",
    "Ising",
    "Joint",
    "LinearChainCRF",
    "MarkovRandomField",
    "all_spins",
    "canonical_potentials",
    "chain_marginals",
    "chain_mode",
    "chain_partition",
    "checkerboard_links",
    "cliques",
    "critical_coupling",
    "d_separated",
    "denoiser",
    "factorization_gap",
    "from_binary",
    "from_joint",
    "half_sweep",
    "is_markov",
    "markov_blanket",
    "maximal_cliques",
    "minimal_graph",
    "moral_graph",
    "moussouris",
    "onsager_magnetization",
    "open_path",
    "pack",
    "powers",
    "product",
    "random_graph",
    "random_network",
    "separated",
    "signed_uniform",
    "topological_order",
    "unpack",
]
