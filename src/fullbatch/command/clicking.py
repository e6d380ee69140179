"""Click's commands, options and arguments as fullbatch has them: panels in the help, and nothing given twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import click

OPTIONS = "Options"  # the panel of those that say how the command runs


def _callback(check: Callable[[Any], Any] | None) -> Callable[[click.Context, click.Parameter, Any], Any] | None:
    """Click's callback for a function of the value alone."""
    return None if check is None else lambda context, parameter, value: check(value)


class Option(click.Option):
    """An option in a panel of the help, which shows its default.

    check : gets what was given, or the default; hands it on, or raises click.BadParameter
    """

    def __init__(
        self, *args: Any, panel: str = OPTIONS, check: Callable[[Any], Any] | None = None, **others: Any
    ) -> None:
        super().__init__(*args, **{"show_default": True, "callback": _callback(check), **others})
        self.panel = panel


class Argument(click.Argument):
    """An argument that the help says something of. check : as of an option"""

    def __init__(self, *args: Any, help: str, check: Callable[[Any], Any] | None = None, **others: Any) -> None:
        super().__init__(*args, callback=_callback(check), **others)
        self.text = help  # Click before 8.5 has no help of arguments, and later ones a place of their own for it.


def listed(values: Sequence[Any]) -> list[Any] | None:
    """What was given several times; None: it was not given."""
    return list(values) or None


def file_path(text: str) -> Path:
    """The type of files and folders. An empty name, of a variable that is not set, would be this folder."""
    if not text.strip():
        raise click.BadParameter("the name is empty; give a file or a folder.")
    return Path(text)


option = partial(click.option, cls=Option)
flag = partial(option, is_flag=True)
several = partial(option, multiple=True, check=listed)
argument = partial(click.argument, cls=Argument)


class Command(click.Command):
    """A command whose help has the options in panels, and that takes an option of one value once."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, Argument):
                panels.setdefault("Arguments", []).append((parameter.make_metavar(ctx), parameter.text))
            elif record := parameter.get_help_record(ctx):
                panels.setdefault(getattr(parameter, "panel", OPTIONS), []).append(record)
        for panel, records in sorted(panels.items(), key=lambda pair: pair[0] not in ("Arguments", OPTIONS)):
            with formatter.section(panel):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example stays on its line, so that it can be copied."""
        if self.epilog:
            formatter.write(f"\n{self.epilog}\n")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        *_, given = self.make_parser(ctx).parse_args(list(args))
        for parameter, times in Counter(given).items():
            if times > 1 and isinstance(parameter, Option) and not parameter.multiple and not parameter.is_flag:
                raise click.UsageError(f"{parameter.opts[0]} is given {times} times; give it once.", ctx)
        return super().parse_args(ctx, args)


class Commands(click.Group):
    """A group of commands in modules, of which one that is asked for alone is imported.

    modules : where each command is, in the order of the help
    """

    def __init__(self, *args: Any, modules: Mapping[str, str], **others: Any) -> None:
        super().__init__(*args, **others)
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.modules]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.modules:
            return None
        return getattr(import_module(self.modules[cmd_name]), cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.modules and args[0][:1] != "-":
            like = get_close_matches(args[0], self.modules, 1)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {like[0]!r}?" if like else ""))
        return super().resolve_command(ctx, args)
