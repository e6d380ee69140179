"""The page of all error messages, made from the code's own: every ``raise`` of the package, as text with gaps."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import fullbatch
from fullbatch import errors

HOUSE = Path(fullbatch.__file__).parent
GAP = "…"
KINDS = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)}
BUILT_IN = {"ValueError", "TypeError", "AttributeError"}  # where scikit-learn's contract fixes the class


class Message(NamedTuple):
    """An error's class, the room that raises it, and its text, where a gap is what came."""

    kind: str
    room: str
    text: str


def messages() -> list[Message]:
    """All messages that ``raise`` makes of a text that stands there."""
    found = set()
    for path in sorted(HOUSE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            call = node.exc if isinstance(node, ast.Raise) else None
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or not call.args:
                continue
            text = _text(call.args[0])
            if call.func.id in KINDS | BUILT_IN and len(text.replace(GAP, "").split()) > 2:
                found.add(Message(call.func.id, path.relative_to(HOUSE).parts[0].removesuffix(".py"), text))
    return sorted(found)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else GAP for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return GAP


def page() -> str:
    """The page, in Markdown."""
    by_kind: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for one in messages():
        by_kind[one.kind][one.room].append(one.text)
    lines = [
        "# All messages",
        "",
        f"Made from the code when these pages are built. {GAP} stands for what the message names: a column, a row, a",
        "number. Each says what was expected, what came, and the cure.",
    ]
    for kind in sorted(by_kind):
        lines += ["", f"## {kind}", "", _said_of(kind)]
        for room in sorted(by_kind[kind]):
            lines += ["", f"### {kind} of {room}", ""]
            lines += [f"- {_literal(text)}" for text in by_kind[kind][room]]
    return "\n".join(lines) + "\n"


def _said_of(kind: str) -> str:
    if kind in BUILT_IN:
        return "Raised plain where scikit-learn's contract fixes the class."
    return str(getattr(errors, kind).__doc__).split("\n")[0]


def _literal(text: str) -> str:
    text = " ".join(text.split())
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _write(app: Any) -> None:
    path = Path(app.srcdir) / "messages.md"
    new = page()
    if not path.exists() or path.read_text(encoding="utf-8") != new:
        path.write_text(new, encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True}
