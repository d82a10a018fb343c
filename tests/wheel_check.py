"""Builds the wheel, installs it away from the repository and imports every package from there.

The suite runs against the editable install, which is blind to packaging mistakes: hence this script, `make wheel-test`.
"""

import json
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).resolve().parent.parent
EXPECTED = {"types", "workflows", "activities", "testing", "worker", "client", "gateway", "cli"}
PAGE = PurePosixPath("sojourn", "gateway", "console", "page")
"""The one folder of files that are no Python: the console as browsers get it."""
LIGHT = ["sojourn.types", "sojourn.workflows", "sojourn.client"]
# What only extras bring: the packages above must not need any of it.
EXTRAS = [
    "anthropic",
    "bs4",
    "cryptography",
    "genai_prices",
    "google.genai",
    "griffe",
    "mcp",
    "openai",
    "prompt_toolkit",
    "pydantic_ai",
]
EXTRAS += ["lxml", "markdownify", "rich", "starlette", "typer", "uvicorn", "yaml"]

IMPORT_ALL = """
import importlib, json, sys
home, names = json.loads(sys.argv[1])
for name in names:
    file = importlib.import_module(name).__file__
    assert file and file.startswith(home), f"{name} was imported from {file}, not from the wheel"
"""
IMPORT_LIGHT = """
import importlib, json, sys
names, absent = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(absent))
for name in names:
    importlib.import_module(name)
"""


def run(*command: str | Path, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdin=subprocess.DEVNULL)


def build_wheel(folder: Path) -> Path:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, REPOSITORY, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_files(wheel: Path) -> list[str]:
    """Returns the names of the packages in it, sorted."""
    with zipfile.ZipFile(wheel) as archive:
        files = [PurePosixPath(name) for name in archive.namelist()]
    inside = [file for file in files if file.parts[0] == "sojourn"]
    packages = {file.parts[1] for file in inside if file.suffix == ".py" and len(file.parts) > 2}

    strays = [str(file) for file in files if file.parts[0] != "sojourn" and ".dist-info" not in file.parts[0]]
    code = [file for file in inside if file.parent != PAGE]
    strays += [str(file) for file in code if len(file.parts) == 2 or file.suffix not in {".py", ".typed"}]
    page = {file.name for file in inside if file.parent == PAGE}
    written = {file.name for file in (REPOSITORY / "client" / PAGE).iterdir()}
    untyped = [name for name in packages if PurePosixPath("sojourn", name, "py.typed") not in inside]
    assert page == written, f"files of the console that differ: {sorted(page ^ written)}"
    assert not strays, f"files that do not belong into the wheel: {strays}"
    assert not EXPECTED - packages, f"packages missing from the wheel: {sorted(EXPECTED - packages)}"
    assert not untyped, f"packages without py.typed: {sorted(untyped)}"
    return sorted(packages)


def install(wheel: Path, folder: Path) -> Path:
    """Returns the interpreter of a new environment that sees the wheel and our dependencies, not the editable code."""
    environment = folder / "venv"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python)]
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # Folders named in a .pth are searched, but .pth files inside them are not read: that leaves the editable one out.
    dependencies = sysconfig.get_path("purelib")
    (site_packages(environment) / "dependencies.pth").write_text(f"{dependencies}\n")
    return python


def site_packages(environment: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)}))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="sojourn-wheel-") as name:
        folder = Path(name).resolve()
        wheel = build_wheel(folder)
        packages = check_files(wheel)
        python = install(wheel, folder)
        modules = [f"sojourn.{package}" for package in packages]
        run(python, "-I", "-c", IMPORT_ALL, json.dumps([str(folder), modules]), cwd=folder)
        run(python, "-I", "-c", IMPORT_LIGHT, json.dumps([LIGHT, EXTRAS]), cwd=folder)
        code = subprocess.call([python.with_name("sojourn"), "--help"], cwd=folder, stdout=subprocess.DEVNULL)
        print(f"{wheel.name}: {', '.join(modules)}; `sojourn --help` exits with {code}")
        sys.exit(code)


if __name__ == "__main__":
    main()
