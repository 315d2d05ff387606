"""What to quantize for and how: all that a method may lean on, each option told once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.core.progress import Progress
from deploypipe.graph.files import HELD_ONCE, weight_bytes
from deploypipe.quantize.calibrator import Calibrator
from deploypipe.quantize.correction import Correction
from deploypipe.quantize.corrections.bias import Bias
from deploypipe.quantize.decide import Race
from deploypipe.quantize.lookout import Arrays
from deploypipe.quantize.memory import Memory
from deploypipe.quantize.profile import Profile
from deploypipe.runtime import Target, host

CHEAP: tuple[Correction, ...] = (Bias(),)
"""The corrections that cost less than the observation."""


@dataclass(frozen=True)
class Job:
    """A target, how to get there, and the samples; methods that need none look at no ``feeds``."""

    target: Target
    """Where the model is to run; it is opened there to be observed and audited."""
    calibrator: Calibrator
    profile: Profile
    feeds: Iterable[Arrays] = ()
    """Calibration batches, input name -> array with the samples along the first dimension; read
    once."""
    samples: int = 0
    """How many there are in ``feeds``, for the progress."""
    race: Race | None = None
    """Times whole models on ``target``.  With it, units stay float where 8 bits do not pay there,
    and the float model itself comes back (``modified`` is False) where none is faster; without it,
    all that fuses is 8-bit."""
    progress: Progress | None = None
    corrections: Sequence[Correction] = CHEAP
    """Each is applied where it brings the outputs nearer to the float model's."""
    keep_float: Mapping[str, str] = field(default_factory=dict)
    """Node name -> reason, for nodes that are to stay as they are."""
    least_sqnr: float | None = None
    """dB that the outputs are to keep; units go back to float for it, up to all."""
    least_agreement: float | None = None
    """Percent of a classifier's answers that are expected to stay; units go back for it too."""
    classifies: bool = False
    """Whether the samples have classes for labels, so that changed answers are worth a warning."""
    diagnosis: bool = False
    """Whether the notes shall tell what every unit loses, and the worst causes."""
    memory: Memory | None = None
    """Where observations are kept; with one of these samples ``feeds`` are not read."""

    def check_names(self, known: Iterable[str]) -> None:
        """Raise a user's error if ``keep_float`` names no node that could be quantized."""
        unknown = sorted(set(self.keep_float) - set(known))
        if unknown:
            raise UserError(
                f"keep_float names '{unknown[0]}', which is no node that could be quantized"
            )

    def settled(self, model: ir.Model) -> tuple[Job, str | None]:
        """With the profile of this machine, and why no time is taken, if none is: it is not that of
        the target, or the model is too large to be held as often as that takes."""
        profile = self.profile.resolve()
        unheard = profile.elsewhere(self.target.provider) or profile.strange(host()["flags"])
        large = weight_bytes(model) > HELD_ONCE
        if not unheard and large:
            unheard = (
                f"the model's weights are {weight_bytes(model) / 1e9:.1f} GB, and several copies of "
                "them would have to be held, for a diagnosis too; see with deploypipe bench whether "
                "it is faster"
            )
        race, diagnosis = None if unheard else self.race, self.diagnosis and not large
        return replace(self, profile=profile, race=race, diagnosis=diagnosis), unheard
