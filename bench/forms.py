"""The form of the JSON files: what has to be there, so that a damaged or foreign file is one line and not a traceback.

Points may hold more than their forms name: what is written down for a reader, and no table shows. A summary has none,
since it is made anew from points and limits.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from bench.problem import Shape

Number = Annotated[float, Meta(gt=-1e300, lt=1e300)]  # with a larger one the arithmetic ends
NotNegative = Annotated[float, Meta(ge=0, lt=1e300)]
Positive = Annotated[float, Meta(gt=0, lt=1e300)]
Whole = Annotated[int, Meta(ge=-(2**62), le=2**62)]
Count = Annotated[int, Meta(ge=0, le=2**62)]
Some = Annotated[int, Meta(ge=1, le=2**62)]
Point = TypeVar("Point")


def misfit(error: Exception) -> str:
    """What msgspec says of a file that does not fit, with the place first: "points[0].m: Expected `int`, got `str`"."""
    text, _, where = str(error).partition(" - at `$")
    return f"{where.strip('.`')}: {text}" if where else text


def encoded(value: Any) -> bytes:
    """As JSON: a number of NumPy's as it would be one of Python's, null for NaN and infinity."""
    return msgspec.json.encode(value, enc_hook=lambda one: one.item())


# --- What all have --------------------------------------------------------------------------------------------


class Head(Struct):
    """What is looked at first: of another kind or schema, nothing else need be as it is here."""

    kind: str
    schema: int


class Timing(Struct):
    median: Positive
    min: Positive
    max: Positive
    samples: list[Positive]
    calls: Some = 1
    disturbed: bool = False


class Rounds(Struct):
    kept: Count
    dropped: Count
    cut: bool = False
    disturbed: Count = 0
    two_threads_over_one: list[Number] = []


class Limits(Struct, frozen=True):
    """product : FLOP/s of a large square matrix product;  copy : bytes/s of a large copy, read and written counted;
    read : bytes/s of a large dot product, which only reads; 0 where it was not measured
    """

    product: Positive
    copy: Positive
    read: NotNegative = 0.0

    @property
    def memory(self) -> float:
        """bytes/s that come from memory at best."""
        return max(self.copy, self.read)

    def best(self, other: Limits) -> Limits:
        """The highest of both: a limit that was measured while the machine was disturbed is no limit."""
        return Limits(*map(max, msgspec.structs.astuple(self), msgspec.structs.astuple(other)))

    def __str__(self) -> str:
        return (
            f"matrix product {self.product / 1e9:,.0f} GFLOP/s, copy {self.copy / 1e9:,.0f} GB/s, "
            f"read {self.read / 1e9:,.0f} GB/s"
        )


class Kept(Struct):
    """Of a summary what is not made anew."""

    limits: dict[str, Limits] = {}


class Given(Struct, Generic[Point]):
    """What a kind of result has in a form of its own; results.Result has the rest."""

    points: list[Point]
    summary: Kept

    def __post_init__(self) -> None:
        """What a point reaches is of the limits of its device."""
        devices = {point.device for point in self.points if isinstance(point, Shaped)}
        if missing := devices - self.summary.limits.keys():
            raise ValueError(f"summary.limits has no {', '.join(missing)}")


class Shaped(Struct, kw_only=True):
    """A point of a network."""

    shape: str
    m: Some
    rounds: Rounds
    device: str = "cpu"

    def __post_init__(self) -> None:
        Shape.parse(self.shape)


# --- Scaling --------------------------------------------------------------------------------------------------


class Roofline(Struct):
    seconds: Positive
    bound: str
    examples_per_second: Positive


class ScalingPoint(Shaped, kw_only=True):
    """``seconds`` and the rates are None where no round was quiet."""

    backend: str
    device: str  # which no default stands for: a step is compared with the limits of its own
    step: str
    threads: Whole
    dtype: Literal["float32", "float64"]
    data_bytes: Positive
    extra_bytes: Count | None
    roofline: Roofline
    seconds: Timing | None
    examples_per_second: Positive | None
    gflops: Positive | None
    fraction: Positive | None
    error_of_gradient: Number | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        rates = (self.examples_per_second, self.gflops, self.fraction)
        if any((rate is None) != (self.seconds is None) for rate in rates):
            raise ValueError("it is not with all rates where it has seconds, and with none where it has none")


# --- Accuracy -------------------------------------------------------------------------------------------------


class AccuracyPoint(Struct):
    contender: str
    shape: str
    m: Some
    step: str
    error_of_gradient: NotNegative


# --- Peers ----------------------------------------------------------------------------------------------------


class PeersPoint(Shaped, kw_only=True):
    part: Literal["step", "epoch"]
    case: str
    allocator: str
    times: dict[str, Timing | None]
    steps: dict[str, str]
    left_out: dict[str, str]
    errors: dict[str, Number] = {}
    error_of_gradient: dict[str, Number] = {}


# --- Training -------------------------------------------------------------------------------------------------


class TrainingPoint(Struct):
    data: str
    contender: str
    seed: Whole
    step: str
    seconds: list[Positive]
    losses: list[Number]
    rounds: Rounds = field(default_factory=lambda: Rounds(0, 0))

    def __post_init__(self) -> None:
        if not len(self.seconds) == len(self.losses) > 0:
            raise ValueError("it is not with one loss for each of its seconds")


# --- The profile ----------------------------------------------------------------------------------------------


class ProfilePoint(Shaped, kw_only=True):
    batch: Some | None
    threads: Some
    times: dict[str, Timing | None]
    steps: dict[str, str]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not ({"all", "one thread", "call"} <= self.times.keys() and "all" in self.steps):
            raise ValueError("it is not with times of all, one thread and call")


# --- Tables ---------------------------------------------------------------------------------------------------


class TablesPoint(Struct):
    table: str
    contender: str
    judge: bool
    classify: bool
    rows: Some
    columns: Some
    loss: Positive
    seconds: Positive
    cpu: Positive
    others: NotNegative
    extra: Count
    seed: Count
    limited: bool
    revision: str | None


# --- Serving --------------------------------------------------------------------------------------------------


class ServingPoint(Struct):
    part: Literal["bulk", "row", "graph"]
    case: str
    m: Some
    times: dict[str, Timing | None]
    rounds: Rounds


FORMS: dict[str, Any] = {
    "scaling": Given[ScalingPoint],
    "accuracy": Given[AccuracyPoint],
    "peers": Given[PeersPoint],
    "training": Given[TrainingPoint],
    "profile": Given[ProfilePoint],
    "tables": Given[TablesPoint],
    "serving": Given[ServingPoint],
}
