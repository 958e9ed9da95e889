"""Packages of extras: one that is absent, and one that is there in a version that does not fit, are told apart."""

from pathlib import Path

import pytest

from hybridsearch import EncoderError, MissingDependency
from hybridsearch.encoders.optional import require


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose packages can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def package(folder: Path, name: str, content: str = "") -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(content)


def test_a_package_that_is_absent_is_named_with_what_installs_it() -> None:
    with pytest.raises(MissingDependency, match=r"no_such_package is not installed: pip install 'hybridsearch\[bge\]'"):
        require("no_such_package.part", extra="bge")


def test_a_package_that_needs_an_absent_one_names_that(packages: Path) -> None:
    package(packages, "needs_another", "import no_such_package")
    with pytest.raises(MissingDependency, match="no_such_package is not installed"):
        require("needs_another", extra="bge")


def test_a_package_without_the_module_that_another_wants_is_of_a_version_that_does_not_fit(packages: Path) -> None:
    package(packages, "newer_library")
    package(packages, "older_user", "from newer_library.gone import helper")
    with pytest.raises(
        EncoderError, match=r"older_user is installed and does not load: .*newer_library\.gone"
    ) as caught:
        require("older_user", extra="bge")
    assert not isinstance(caught.value, MissingDependency)
