import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ROOTS = [REPOSITORY / name for name in ("workflows", "activities", "client")]
MAX_MODULE_LINES = 600

each_root = pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.name)


def packages_of(root: Path) -> list[Path]:
    return sorted({module.parent for module in root.glob("sojourn/*/*.py")})


@each_root
def test_root_holds_the_namespace_and_nothing_else(root: Path) -> None:
    assert {entry.name for entry in root.iterdir() if not entry.name.startswith(".")} == {"sojourn", "ruff.toml"}


@each_root
def test_namespace_holds_packages_and_no_module(root: Path) -> None:
    """One stray `sojourn/__init__.py` hides the packages of the two other roots."""
    assert [entry.name for entry in (root / "sojourn").iterdir() if not entry.is_dir()] == []


@each_root
def test_every_package_is_typed(root: Path) -> None:
    packages = packages_of(root)

    assert packages
    assert [package.name for package in packages if not (package / "__init__.py").is_file()] == []
    assert [package.name for package in packages if not (package / "py.typed").is_file()] == []


@each_root
def test_no_module_grows_too_large(root: Path) -> None:
    lines = {str(module.relative_to(REPOSITORY)): module.read_text().count("\n") for module in root.rglob("*.py")}

    assert {name: count for name, count in lines.items() if count > MAX_MODULE_LINES} == {}


def test_types_import_nothing_else_of_ours() -> None:
    """Ruff bans the other roots here; `sojourn.workflows` lies in the same root, so its list cannot name it."""
    upward = re.compile(r"^\s*(?:from|import) sojourn\b(?!\.types\b)", re.MULTILINE)
    modules = sorted((REPOSITORY / "workflows" / "sojourn" / "types").glob("**/*.py"))

    assert [module.name for module in modules if upward.search(module.read_text())] == []


def test_no_test_folder_is_a_package() -> None:
    """A package under `tests/` would shadow other people's `workflows` and `client`."""
    assert list((REPOSITORY / "tests").rglob("__init__.py")) == []
