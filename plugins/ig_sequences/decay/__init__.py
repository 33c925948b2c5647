"""Attribution decay: how fast a model's attributions fade with the age of a step."""

from ig_sequences.decay.finding import find_decay
from ig_sequences.decay.fits import Fit
from ig_sequences.decay.measurement import attribution_decay
from ig_sequences.decay.result import Decay
from ig_sequences.decay.status import MEANING, DecayStatus

__all__ = ["MEANING", "Decay", "DecayStatus", "Fit", "attribution_decay", "find_decay"]
