"""The form of the JSON files: what has to be there, so that a damaged or foreign file is one line and not a traceback.

Points and summaries may hold more than their forms name: what is written down for a reader, and no table shows.
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
Summary = TypeVar("Summary")


def misfit(error: Exception) -> str:
    """What msgspec says of a file that does not fit, with the place first: "points[0].m: Expected `int`, got `str`"."""
    text, _, where = str(error).partition(" - at `$")
    return f"{where.strip('.`')}: {text}" if where else text


def read(raw: dict[str, Any]) -> Measured[Any, Any]:
    """What was measured, of a result of a known kind. Raises msgspec.ValidationError; see misfit."""
    measured = raw.get("points") or raw.get("summary")
    form = FORMS[raw["kind"]] if measured else Measured[dict[str, Any], dict[str, Any]]
    return msgspec.convert(raw, form)


# --- What all have --------------------------------------------------------------------------------------------


class Head(Struct):
    """What is looked at first: of another kind or schema, nothing else need be as it is here."""

    kind: str
    schema: int


class Gpu(Struct):
    name: str


class Blas(Struct):
    library: str
    version: str | None
    of: str


class Native(Struct):
    library: dict[str, Any] | None = None


class Machine(Struct):
    """What machine.Machine has of lists and tables."""

    blas: list[Blas]
    gpus: list[Gpu]
    native: Native


class Measured(Struct, Generic[Point, Summary]):
    """What a kind of result has in a form of its own; results.Result has the rest."""

    machine: Machine
    points: list[Point]
    summary: Summary


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


class Limits(Struct):
    product: Positive
    copy: Positive
    read: Number


class Shaped(Struct):
    """A point of a network."""

    shape: str
    m: Some
    rounds: Rounds

    def __post_init__(self) -> None:
        Shape.parse(self.shape)


# --- Scaling --------------------------------------------------------------------------------------------------


class Roofline(Struct):
    seconds: Positive
    bound: str
    examples_per_second: Positive


class ScalingPoint(Shaped):
    """``seconds`` and the rates are None where no round was quiet."""

    backend: str
    device: str
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


class Growth(Struct):
    backend: str
    shape: str
    first: Some = field(name="from")
    to: Some
    time_over_proportional: Positive
    extra_bytes_more: Whole | None


class Crossover(Struct):
    shape: str
    cpu: str
    m: Positive | None
    top_m: Some
    top_ratio: Positive


class ScalingSummary(Struct):
    limits: dict[str, Limits]
    growth: list[Growth]
    crossover: list[Crossover]


class Scaling(Measured[ScalingPoint, ScalingSummary]):
    def __post_init__(self) -> None:
        """A run that goes on derives the points' rates anew."""
        missing = {point.device for point in self.points} - self.summary.limits.keys()
        if missing:
            raise ValueError(f"summary.limits has no {', '.join(missing)}")


# --- Accuracy -------------------------------------------------------------------------------------------------


class AccuracyPoint(Struct):
    contender: str
    shape: str
    m: Some
    step: str
    error_of_gradient: NotNegative


Accuracy = Measured[AccuracyPoint, dict[str, Any]]


# --- Peers ----------------------------------------------------------------------------------------------------


class PeersPoint(Shaped):
    part: Literal["step", "epoch"]
    case: str
    allocator: str
    times: dict[str, Timing | None]
    steps: dict[str, str]
    left_out: dict[str, str]
    errors: dict[str, Number] = {}
    error_of_gradient: dict[str, Number] = {}


class Fastest(Struct):
    name: str
    ratio: Positive


class PeersRow(Struct):
    part: str
    case: str
    allocator: str
    own: str
    step: str
    limit: str
    of_limit: Number
    as_used: Fastest | None
    by_hand: Fastest | None
    over: dict[str, Positive]


class MeanRatio(Struct):
    ratio: Positive
    least: Positive


class Mean(Struct):
    allocator: str
    own: str
    cases: Some
    as_used: MeanRatio | None
    by_hand: MeanRatio | None


class PeersSummary(Struct):
    limits: dict[str, Limits]
    rows: list[PeersRow]
    geometric_means: list[Mean]


Peers = Measured[PeersPoint, PeersSummary]


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


class TrainingTime(Struct):
    data: str
    contender: str
    step: str
    seeds: Some
    reached: Count
    seconds: Positive | None
    epochs: Positive | None
    ratio: Positive | None
    disturbed: Count = 0


class TrainingSummary(Struct):
    targets: dict[str, Positive]
    times: list[TrainingTime]

    def __post_init__(self) -> None:
        if not {row.data for row in self.times} <= self.targets.keys():
            raise ValueError("it is not with a target for each of its times")


Training = Measured[TrainingPoint, TrainingSummary]


# --- The profile ----------------------------------------------------------------------------------------------


class ProfilePoint(Shaped):
    batch: Some | None
    threads: Some
    times: dict[str, Timing | None]
    steps: dict[str, str]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not ({"all", "one thread", "call"} <= self.times.keys() and "all" in self.steps):
            raise ValueError("it is not with times of all, one thread and call")


class Split(Struct):
    shape: str
    m: Some
    batch: Some | None
    step: str
    whole: Positive
    parts: dict[str, Number | None]
    reading: Positive | None
    one_thread: Positive
    disturbed: bool = False


class ProfileSummary(Struct):
    limits: dict[str, Limits]
    splits: list[Split]


Profile = Measured[ProfilePoint, ProfileSummary]


# --- Tables ---------------------------------------------------------------------------------------------------


class TablesFit(Struct):
    """What a fit and the row of its seeds share."""

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


class TablesPoint(TablesFit):
    seed: Count
    limited: bool
    revision: str | None


class TablesRow(TablesFit):
    seeds: Some
    limited: Count


class TablesSummary(Struct):
    rows: list[TablesRow]


Tables = Measured[TablesPoint, TablesSummary]


# --- Serving --------------------------------------------------------------------------------------------------


class ServingPoint(Struct):
    part: Literal["bulk", "row", "graph"]
    case: str
    m: Some
    times: dict[str, Timing | None]
    rounds: Rounds


Serving = Measured[ServingPoint, dict[str, Any]]


FORMS: dict[str, Any] = {
    "scaling": Scaling,
    "accuracy": Accuracy,
    "peers": Peers,
    "training": Training,
    "profile": Profile,
    "tables": Tables,
    "serving": Serving,
}
