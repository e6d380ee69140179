"""Every code block of the README and of these pages is run: what it prints is what stands there.

``python`` blocks run one after another, in one namespace for each page, and ``pycon`` blocks are doctests there.
Of ``sh`` blocks the command's lines run in this process, and bash checks the syntax of the others. ``text`` shows what
was printed.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import re
import shlex
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import fullbatch
from fullbatch.command.app import main
from fullbatch.errors import TableWarning

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGES = sorted([ROOT / "README.md", *HERE.glob("*.md")])
MADE = {"messages.md", "benchmarks.md", "changelog.md", "contributing.md"}  # of other files, with tests of their own
RUN, CHECKED, SHOWN = ("python", "pycon"), ("sh", "console", ""), ("text", "yaml", "toml", "json")
NEEDS = {"cluster.md": "distributed"}  # beside what all pages need


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line at which it begins."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\S*)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if not found[1].startswith("{"):  # a directive of MyST
            yield Block(found[1], found[2], text[: found.start()].count("\n") + 1)


def run_python(block: Block, page: Path, names: dict[str, Any]) -> None:
    code = compile("\n" * block.line + block.text, str(page), "exec")
    exec(code, names)


def run_doctest(block: Block, page: Path, names: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line)
    told = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=told.write, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0, told.getvalue()
    names.update(test.globs)


def run_shell(block: Block, page: Path) -> None:
    """Run what is the command's, and let bash read the rest."""
    checked = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["fullbatch"] or "--cluster" in words:  # which needs a scheduler
            continue
        out, told = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
            status = main(words[1:])
        # A strict prediction may refuse: then it says why, on one line.
        assert status == 0 or "--strict" in words, f"{page.name}:{block.line}: {line}: {told.getvalue()}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in MADE], ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: Path, tables: Path) -> None:
    if page.name in NEEDS:
        pytest.importorskip(NEEDS[page.name])
    names: dict[str, Any] = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TableWarning)
        for block in blocks(page):
            assert block.language in (*RUN, *CHECKED, *SHOWN), f"{page.name}:{block.line}: {block.language}"
            if block.language == "python":
                run_python(block, page, names)
            elif block.language == "pycon":
                run_doctest(block, page, names)
            elif block.language in CHECKED:
                run_shell(block, page)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 7000


@pytest.mark.parametrize("page", sorted((ROOT / "examples").glob("*.py")), ids=lambda page: page.name)
def test_an_example_is_short_and_says_what_it_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    assert ast.get_docstring(ast.parse(text))


LINK = re.compile(r"\]\((?!https?:)([^)#\s]+\.md)?(?:#([\w-]+))?\)")


def anchors(page: Path) -> set[str]:
    """The anchors that MyST gives a page's headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for found in LINK.finditer(page.read_text(encoding="utf-8")):
        target = page if not found[1] else (page.parent / found[1]).resolve()
        if target.name in MADE and not target.exists():
            continue  # it is made when the pages are built
        assert target.exists(), found[0]
        assert not found[2] or found[2] in anchors(target), found[0]


def test_each_question_has_an_answer_in_a_page() -> None:
    asked = re.split(r"^\d+\. ", (HERE / "questions.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert len(asked) >= 25
    assert [one for one in asked if not (one.startswith("**") and LINK.search(one))] == []


def test_the_messages_that_are_explained_exist() -> None:
    from _ext.messages import messages

    told = " ".join(" ".join(one.text.split()) for one in messages())
    rows = re.findall(r"^\| `(.+?)` \|", (HERE / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 15
    assert [row for row in rows if row not in told] == []


def test_the_messages_of_the_page_on_gpus_are_those_of_the_code():
    """They are made of parts, so that they are looked for in the files of the rooms that raise them."""
    rooms = [Path(fullbatch.__file__).parent / room for room in ("machine", "fold", "sources")]
    code = "".join(path.read_text(encoding="utf-8") for room in rooms for path in sorted(room.glob("*.py")))
    rows = re.findall(r"^\| `(.+?)` \|", (HERE / "gpu.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 10
    assert [row for row in rows if row not in code] == []
