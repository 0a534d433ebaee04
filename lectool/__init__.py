r"""lectool: the implementations behind the book "Unsupervised and Generative Deep Learning".

One module a topic, each short enough to be read from top to bottom:

- shared by all chapters: :mod:`~lectool.data`, :mod:`~lectool.train`, :mod:`~lectool.nets`,
  :mod:`~lectool.metrics`, :mod:`~lectool.plot`, :mod:`~lectool.scale`;
- what makes a page honest, movable and readable: :mod:`~lectool.claims`, :mod:`~lectool.explore`,
  :mod:`~lectool.pads`, :mod:`~lectool.source`, :mod:`~lectool.live`;
- what papers have measured and long runs here: :mod:`~lectool.published`, :mod:`~lectool.results`,
  :mod:`~lectool.full`;
- topics: :mod:`~lectool.pca`, :mod:`~lectool.autoencoders`, :mod:`~lectool.factors`, :mod:`~lectool.sparse`,
  :mod:`~lectool.graphical`, :mod:`~lectool.latent`, :mod:`~lectool.boltzmann`, :mod:`~lectool.vae`,
  :mod:`~lectool.gan`, :mod:`~lectool.flows`;
- assignments: :mod:`~lectool.checks`, :mod:`~lectool.assign`.
"""

__version__ = "0.1.0"
