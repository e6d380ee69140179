"""Which columns of DATA are read, and how: the options that ``train``, ``columns`` and ``convert`` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fullbatch.command.options import column_names, date_formats
from fullbatch.command.printing import status
from fullbatch.errors import InputError

if TYPE_CHECKING:
    from fullbatch.sources.stored import Store
    from fullbatch.tables.raw import RawTable


@dataclass(frozen=True)
class Selection:
    """What was typed of them, None or empty where nothing was."""

    drop: Sequence[str] | None
    only: Sequence[str] | None
    missing: Sequence[str] | None
    keep_missing_words: bool
    decimal: str
    date_format: Sequence[str] | None
    categorical: Sequence[str] | None
    numeric: Sequence[str] | None

    def typed(self) -> dict[str, Any]:
        """By the option, what decides how a table is read."""
        return {
            "--drop": self.drop, "--columns": self.only, "--missing": self.missing,
            "--keep-missing-words": self.keep_missing_words, "--decimal": self.decimal != ".",
            "--date-format": self.date_format, "--categorical": self.categorical, "--numeric": self.numeric,
        }  # fmt: skip

    def conventions(self) -> dict[str, Any]:
        """How texts are read, as ``read_table`` and ``convert`` take it.

        InputError where a column has a date format and another option that says what it is, or that it is left out.
        """
        from fullbatch.tables.dates import DateFormats
        from fullbatch.tables.raw import MissingWords

        named, anywhere = date_formats(self.date_format or ())
        others = {"--categorical": self.categorical, "--numeric": self.numeric, "--drop": self.drop}
        for option, values in others.items():
            for name in column_names(values or (), tuple(named)):
                if name in named:
                    raise InputError(f"column {name!r} is in --date-format and in {option}; choose one.")
        words = MissingWords.of(column_names(self.missing or (), ()), keep=self.keep_missing_words)
        return {"missing": words, "decimal": self.decimal, "date_format": DateFormats(named, anywhere=anywhere)}

    def kinds(self, names: Sequence[str]) -> dict[str, Any]:
        """The columns whose kind is decided, of a table of these names."""
        return {option: column_names(getattr(self, option) or (), names) for option in ("categorical", "numeric")}

    def decides_alone(self, split_by: str | None, names: Sequence[str]) -> tuple[str, ...]:
        """The column of --split-by, where the selection of columns has it not, so that it is not learned from."""
        chosen = column_names(self.only or (), names)
        dropped = split_by in column_names(self.drop or (), names) or (chosen and split_by not in chosen)
        return (split_by,) if split_by is not None and dropped else ()

    def dropped_and_chosen(
        self, names: Sequence[str], target: str | None, used: Mapping[str, str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The columns of --drop and of --columns. InputError where they contradict each other, or what else is typed.

        used : see ``read_selected``
        """
        dropped, chosen = column_names(self.drop or (), names), column_names(self.only or (), names)
        if target is not None and target in dropped:
            raise InputError(f"{target!r} is the target, and --drop leaves it out; choose one.")
        for option, name in used.items():
            if name in dropped and option != "--split-by":
                raise InputError(f"column {name!r} is in {option} and in --drop; choose one.")
        dropped = tuple(name for name in dropped if name not in used.values())
        if both := sorted(set(dropped) & set(chosen)):
            raise InputError(f"column {both[0]!r} is in --columns and in --drop; choose one.")
        return dropped, chosen


def table_or_store(
    data: Path, target: str | None, selection: Selection, used: Mapping[str, str] | None = None
) -> RawTable | Store:
    """``read_selected``, or the store that DATA is, in which columns were selected when it was made."""
    from fullbatch.sources.store_file import is_store

    if not is_store(data):
        return read_selected(data, target, selection, used or {})
    from fullbatch.sources.stored import open_store

    refuse_options({**selection.typed(), **(used or {})}, data)
    store = open_store(data)
    if target not in (None, store.target):
        raise InputError(
            f"the target of the store {data} is {store.target!r}, and not {target!r}; convert for that one."
        )
    return store


def refuse_options(asked: Mapping[str, Any], store: Path) -> None:
    """InputError for an option that is given, where a store has decided."""
    for name, value in asked.items():
        if value:
            raise InputError(f"{name} was decided when the store {store} was made; convert the table anew for another.")


def read_selected(data: Path, target: str | None, selection: Selection, used: Mapping[str, str]) -> RawTable:
    """The table as options select its columns; its ``left_out`` says why the others are left out.

    used : columns that options name for a part of their own, by the option; they are read, and --drop may not have
        them, but for that of --split-by: it decides, and need not be learned from
    """
    from fullbatch.tables.reading import read_names, read_table

    conventions = selection.conventions()
    keep = [*([] if target is None else [target]), *used.values()]
    with status(f"reading {data}"):
        if not selection.drop and not selection.only:
            return read_table(data, keep=keep, **conventions)
        names = read_names(data)
        dropped, chosen = selection.dropped_and_chosen(names, target, used)
        if not selection.only:
            return read_table(data, keep=keep, drop=dropped, **conventions)
        table = read_table(data, columns=[*chosen, *keep], **conventions)
        return replace(table, left_out={name: "not in --columns" for name in names if name not in table.columns})
