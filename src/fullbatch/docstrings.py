"""Docstrings of numpydoc whose parameters and attributes are written once, and stand wherever a name is used.

``described(shared)`` completes the docstring of a class or function: each parameter of its signature that its own text
leaves out gets the text of that name in ``shared``, all stand in the signature's order, and each has the default of the
signature, which therefore is typed nowhere else.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

Described = TypeVar("Described", bound=Callable[..., object])
NO_PARAMETERS = ("self", "cls")


def described(
    shared: Mapping[str, str], attributes: Mapping[str, str] | None = None
) -> Callable[[Described], Described]:
    """A decorator that completes a docstring.

    Parameters
    ----------
    shared : mapping
        The text of a parameter by its name: the first line is its type, the others say what it is.
    attributes : mapping, optional
        The same of a class's fitted attributes, which follow those that its own text has.

    Examples
    --------
    >>> shared = {"l2": "float\\nThe penalty of the weights."}
    >>> @described(shared)
    ... def cost(params, l2=0.0):
    ...     '''The cost.
    ...
    ...     Parameters
    ...     ----------
    ...     params : sequence
    ...         Of all layers.
    ...     '''
    >>> print(cost.__doc__)
    The cost.
    <BLANKLINE>
    Parameters
    ----------
    params : sequence
        Of all layers.
    l2 : float, default=0.0
        The penalty of the weights.
    """

    def complete(thing: Described) -> Described:
        if thing.__doc__ is None:  # python -OO takes docstrings away
            return thing
        sections = split(thing.__doc__)
        names = defaults_of(thing)
        own = entries(sections.get("Parameters", ""))
        texts = {name: own.get(name) or _entry(name, shared[name]) for name in names if name in own or name in shared}
        texts = {name: _with_default(text, names[name]) for name, text in texts.items()}
        sections = _with_section(sections, "Parameters", texts, after="")
        if attributes:
            mine = entries(sections.get("Attributes", ""))
            more = {name: _entry(name, text) for name, text in attributes.items() if name not in mine}
            sections = _with_section(sections, "Attributes", mine | more, after="Parameters")
        thing.__doc__ = "\n\n".join(_shown(title, text) for title, text in sections.items())
        return thing

    return complete


def defaults_of(thing: Callable[..., object]) -> dict[str, object]:
    """The names of a function's, or a class's, parameters with their defaults; ``inspect.Parameter.empty`` for none."""
    parameters = inspect.signature(thing).parameters
    return {name: one.default for name, one in parameters.items() if name not in NO_PARAMETERS}


def split(docstring: str) -> dict[str, str]:
    """The sections of a docstring by their titles; that before the first title is ""."""
    parts = re.split(r"^([A-Z][A-Za-z ]+)\n-{3,}$\n?", inspect.cleandoc(docstring), flags=re.MULTILINE)
    return {"": parts[0].strip()} | {parts[i]: parts[i + 1].strip("\n") for i in range(1, len(parts), 2)}


def entries(section: str) -> dict[str, str]:
    """The entries of a section of names, by each name: of several that share a text, ``a, b : type``, by each."""
    found: dict[str, str] = {}
    for text in re.split(r"\n(?=\S)", section.strip("\n")):
        names, colon, rest = text.partition(" :")
        if not colon:  # a name without a type
            names, newline, rest = text.partition("\n")
            rest = newline + rest
        found |= {name.strip(): f"{name.strip()}{colon}{rest}".rstrip() for name in names.split(",") if name.strip()}
    return found


def texts_of(thing: object, section: str = "Parameters") -> dict[str, str]:
    """What a docstring says of each of its parameters, or attributes, as ``described`` takes it for another's."""
    found = entries(split(thing.__doc__ or "").get(section, ""))
    return {name: text.partition(" : ")[2] for name, text in found.items()}


def _entry(name: str, text: str) -> str:
    first, *rest = inspect.cleandoc(text).splitlines()
    return "\n".join([f"{name} : {first}", *(f"    {line}".rstrip() for line in rest)])


def _with_default(text: str, default: object) -> str:
    first, newline, rest = text.partition("\n")
    if default is not inspect.Parameter.empty and "default=" not in first:
        first = f"{first.removesuffix(', optional')}, default={shown(default)}"
    return f"{first}{newline}{rest}"


def shown(default: object) -> str:
    """A default as the texts have it; an object of a class of ours is one that was made without arguments."""
    if isinstance(default, str):
        return f'"{default}"'
    ours = type(default).__module__.partition(".")[0] == __name__.partition(".")[0]
    return f"{type(default).__name__}()" if ours else repr(default)


def _with_section(sections: dict[str, str], title: str, texts: dict[str, str], *, after: str) -> dict[str, str]:
    """The sections with one of entries, where it was or after another."""
    text = "\n".join(texts.values())
    if title in sections or not text:
        return sections | ({title: text} if text else {})
    made: dict[str, str] = {}
    for name, old in sections.items():
        made[name] = old
        if name == after:
            made[title] = text
    return made


def _shown(title: str, text: str) -> str:
    return f"{title}\n{'-' * len(title)}\n{text}" if title else text
