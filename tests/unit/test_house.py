"""The house keeps its own rules where no tool checks them."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "contracts",
    "store",
    "connectors",
    "delivery",
    "ingress",
    "programs",
    "local",
    "integrations",
    "operator/integration_operator",
)
PUBLIC_REGISTRY = {"pypi.org", "files.pythonhosted.org"}

# Spelled so that this file does not contain what it looks for.
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:" + "|".join(["work", "root", "home/[a-z]+", "Users/[A-Za-z]+"]) + r")/\w")


def tracked_files() -> list[Path]:
    """List what git knows or would add, so that a file is seen before its commit."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_the_folder_operator_does_not_hide_the_standard_module() -> None:
    program = "import collections, operator; operator.itemgetter"

    result = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_every_package_says_what_belongs_in_it() -> None:
    silent = [
        str(module.relative_to(ROOT))
        for package in PACKAGES
        for module in (ROOT / package).rglob("__init__.py")
        if len((ast.get_docstring(ast.parse(module.read_text())) or "").split()) < 3
    ]

    assert silent == []


def test_every_module_says_why_it_exists() -> None:
    silent = [
        str(module.relative_to(ROOT))
        for package in PACKAGES
        for module in (ROOT / package).rglob("*.py")
        if not ast.get_docstring(ast.parse(module.read_text()))
    ]

    assert silent == []


def test_tests_are_no_packages() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_every_test_file_has_a_name_of_its_own() -> None:
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))

    assert [name for name, count in names.items() if count > 1] == []


def test_the_lock_file_names_only_the_public_registry() -> None:
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text()))

    assert hosts == PUBLIC_REGISTRY


def test_no_file_names_a_path_of_somebody_s_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked_files()
        for match in MACHINE_PATH.finditer(path.read_text(errors="ignore"))
    ]

    assert found == []
