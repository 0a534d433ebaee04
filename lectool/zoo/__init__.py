r"""The GAN zoo (chapters 15a and 15b): each animal is the few lines in which it differs from the games of lectool.gan.

What has a vocabulary of its own is left in its module: ``big`` (BigGAN), ``text`` (text to image), ``stages``
(StackGAN, LAPGAN, progressive growing), ``inverse`` (from images back to codes).
"""

from lectool.zoo import big, inverse, stages, text
from lectool.zoo.codes import (
    CodeDiscriminator,
    Codes,
    guide,
    infogan,
    matched,
    mutual_information,
    variational_bound,
)
from lectool.zoo.demixing import Pair, demix, demixing_game, train_encoder
from lectool.zoo.energies import (
    AutoencoderEnergy,
    Balance,
    Margin,
    boltzmann,
    ebgan,
    energy_game,
    neighbor_entropy,
    pulling_away,
)
from lectool.zoo.labels import (
    AuxiliaryDiscriminator,
    Blind,
    ConcatenatedDiscriminator,
    ConditionalGenerator,
    ProjectionDiscriminator,
    acgan,
    attach,
    class_coverage,
    class_leakage,
    spread_within,
)
from lectool.zoo.translate import (
    CoupledDiscriminator,
    CoupledGenerator,
    ImagePool,
    SmallDiscriminator,
    Translator,
    coupled,
    cycle_error,
    cyclegan,
    there_and_back,
    translator_loss,
)

__all__ = [
    "AutoencoderEnergy",
    "AuxiliaryDiscriminator",
    "Balance",
    "Blind",
    "CodeDiscriminator",
    "Codes",
    "ConcatenatedDiscriminator",
    "ConditionalGenerator",
    "CoupledDiscriminator",
    "CoupledGenerator",
    "ImagePool",
    "Margin",
    "Pair",
    "ProjectionDiscriminator",
    "SmallDiscriminator",
    "Translator",
    "acgan",
    "attach",
    "big",
    "boltzmann",
    "class_coverage",
    "class_leakage",
    "coupled",
    "cycle_error",
    "cyclegan",
    "demix",
    "demixing_game",
    "ebgan",
    "energy_game",
    "guide",
    "infogan",
    "inverse",
    "matched",
    "mutual_information",
    "neighbor_entropy",
    "pulling_away",
    "spread_within",
    "stages",
    "text",
    "there_and_back",
    "train_encoder",
    "translator_loss",
    "variational_bound",
]
