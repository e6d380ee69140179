"""Each array library that is installed, by the same questions; docs/arrays.md has the versions that were asked."""

from __future__ import annotations

import pytest
from libraries import REFUSED, TAKEN, check_pass, made_by, said


def maker(library):
    """CI has all of them but dpnp, which takes 3 GB, and mlx."""
    try:
        return made_by(library)
    except ImportError as error:
        pytest.skip(f"not installed: {error}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", TAKEN)
def test_it_gives_what_numpy_gives(name):
    check_pass(maker(TAKEN[name]))  # ``python tests/core/libraries.py`` trains besides


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_why(name):
    library, words = REFUSED[name]
    assert words in said(maker(library))
