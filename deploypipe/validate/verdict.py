"""The answer: three outcomes, a check for each question, and the budget that asks them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

import pydantic

from deploypipe.core.files import Json

Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]
Side = Literal["least", "most"]


class Outcome(StrEnum):
    """UNDECIDED is neither: the measurement cannot tell."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"


@dataclass(frozen=True)
class Check:
    """One question: what was measured, with its interval, against which limit.

    ``side`` says what the limit is: the least or the most that passes.
    """

    name: str
    measured: float | None
    low: float | None
    high: float | None
    limit: float | None
    unit: str
    outcome: Outcome
    why: str
    side: Side
    samples_needed: int | None = None
    """About how many samples would decide what is undecided, where more of them would."""

    def to_json(self) -> dict[str, Json]:
        return {**vars(self), "outcome": self.outcome.value}


@dataclass(frozen=True)
class Verdict:
    """All checks; one failure fails it, else one undecided leaves it undecided."""

    checks: tuple[Check, ...]

    @property
    def outcome(self) -> Outcome:
        outcomes = {check.outcome for check in self.checks}
        for outcome in (Outcome.FAIL, Outcome.UNDECIDED):
            if outcome in outcomes:
                return outcome
        return Outcome.PASS

    @property
    def exit_code(self) -> int:
        """0 pass, 1 a check failed, 3 undecided."""
        return {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.UNDECIDED: 3}[self.outcome]

    def to_json(self) -> dict[str, Json]:
        """The ``verdict`` section of a report."""
        checks = [check.to_json() for check in self.checks]
        return {"outcome": self.outcome.value, "checks": checks}


class Budget(pydantic.BaseModel):
    """What the user asks of the candidate; what is not given is not asked."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    accuracy_drop: NotNegative | None = None
    """Largest loss, in the metric's unit: percentage points for top1."""
    speedup: Positive | None = None
    """Least reference time / candidate time."""
    shrink: Positive | None = None
    """Least reference bytes / candidate bytes."""
