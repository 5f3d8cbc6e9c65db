"""`feature-store init`: a project that runs at once, and nothing of anyone's overwritten."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from feature_store.scaffold import project_files
from tests.cli.conftest import run_command
from tests.cli.documents import BINARIES, blocks, commands, run_script

ROOT = Path(__file__).parents[2]
SCAFFOLD = ROOT / "feature_store" / "scaffold" / "project"
FRAME = {".gitignore", "Makefile", "README.md", "pyproject.toml", "resources/dagster.yaml", "workspace.yaml"}

pytestmark = pytest.mark.usefixtures("environment")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def no_disk_for(monkeypatch):
    """Makes writing fail at a file of this name."""

    def fail_at(name: str) -> None:
        write, link = Path.write_bytes, os.link

        def failing_write(path, content):
            if path.name == name:
                raise OSError(28, "No space left on device")
            return write(path, content)

        def failing_link(source, target):
            if Path(target).name == name:
                raise OSError(28, "No space left on device")
            return link(source, target)

        def failing_rename(path, target):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", failing_write)
        monkeypatch.setattr(os, "link", failing_link)
        monkeypatch.setattr(Path, "rename", failing_rename)

    return fail_at


def test_a_project_is_made_and_the_next_steps_are_told(tmp_path):
    result = run_command("init", "my-shop")
    made = contents(tmp_path / "my-shop")
    assert {".env", "tests/test_groups.py", "data/purchases/date=2024-01-14/purchases.csv", *FRAME} <= set(made)
    assert tomllib.loads(made["pyproject.toml"].decode())["project"]["name"] == "my-shop"
    assert made["README.md"].startswith(b"# my-shop\n")
    assert not [path for path, content in made.items() if b"project-name" in content]
    assert [path.name for path in tmp_path.iterdir()] == ["my-shop"]
    told = result.output.splitlines()
    assert told.index("  cd my-shop") < next(row for row, line in enumerate(told) if "feature-store apply" in line)
    assert "my-shop/README.md" in told[-2]


def test_the_folder_has_the_rights_of_any_new_folder(tmp_path):
    run_command("init", "shop")
    (tmp_path / "other").mkdir()
    assert (tmp_path / "shop").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "shop").mkdir()
    run_command("init", "shop")
    assert (tmp_path / "shop" / ".env").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp/x", "shop ", ".shop", "shop-", "café", "a" * 101, "a\nb"])
def test_a_name_that_is_none_is_refused_with_the_remedy(tmp_path, name):
    error = run_command("init", "--", name, code=1).stderr
    assert "such as my-shop" in error or "feature-store init --into" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["feature-store", "Feature_Store", "polars", "dagster"])
def test_the_name_of_a_package_that_is_needed_is_refused(tmp_path, name):
    assert f"such as {name}-features" in run_command("init", name, code=1).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "shop", "my-shop", "my_shop.v2", "Shop7", "a" * 100])
def test_other_names_are_taken(tmp_path, name):
    run_command("init", name)
    assert (tmp_path / name / ".env").exists()


def test_one_of_name_and_folder_is_needed():
    for arguments in ([], ["shop", "--into", "."]):
        assert "`feature-store init NAME`" in run_command("init", *arguments, code=2).stderr


def test_what_is_there_is_left_as_it_is(tmp_path):
    run_command("init", "shop")
    (tmp_path / "shop" / ".env").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    before = contents(tmp_path)
    assert "feature-store init --into shop" in run_command("init", "shop", code=1).stderr
    assert "There is a file 'file'" in run_command("init", "file", code=1).stderr
    assert "There is a link 'link'" in run_command("init", "link", code=1).stderr
    assert contents(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "link", "shop"]


def test_a_folder_that_is_filled_meanwhile_is_left_as_it_is(tmp_path, monkeypatch):
    write = project_files._write_below

    def slowly(root, wanted):
        write(root, wanted)
        (tmp_path / "shop").mkdir()
        (tmp_path / "shop" / "mine.txt").write_text("mine")

    monkeypatch.setattr(project_files, "_write_below", slowly)
    assert "is not empty" in run_command("init", "shop", code=1).stderr
    assert contents(tmp_path) == {"shop/mine.txt": b"mine"}


@pytest.mark.parametrize("name", ["entities.py", "shop"])
def test_a_failure_leaves_nothing(tmp_path, no_disk_for, name):
    no_disk_for(name)
    assert "No space left on device" in run_command("init", "shop", code=1).stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failure_takes_back_what_was_added(tmp_path, no_disk_for):
    (tmp_path / "feature_assets").mkdir()
    (tmp_path / "feature_assets" / "mine.py").write_text("mine")
    no_disk_for("groups.py")
    assert "No space left on device" in run_command("init", "--into", ".", code=1).stderr
    assert contents(tmp_path) == {"feature_assets/mine.py": b"mine"}
    assert [path.name for path in tmp_path.rglob("*")] == ["feature_assets", "mine.py"]


def test_an_empty_folder_gets_all(tmp_path):
    run_command("init", "elsewhere")
    (tmp_path / "elsewhere2").mkdir()
    run_command("init", "--into", "elsewhere2")
    assert set(contents(tmp_path / "elsewhere2")) == set(contents(tmp_path / "elsewhere"))


def test_a_project_gets_what_it_lacks_and_is_told_so(tmp_path):
    own = {"pyproject.toml": b"[project]\n", ".env": b"MINE=1\n", "resources/__init__.py": b"mine", "shop.py": b"mine"}
    for path, content in own.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    output = run_command("init", "--into", ".").output
    now = contents(tmp_path)
    assert {path: now[path] for path in own} == own
    assert {"feature_assets/definitions.py", "resources/feature_store.py", "tests/test_groups.py"} <= set(now)
    assert FRAME & set(now) == {"pyproject.toml"}, "a workspace.yaml would change what Dagster loads"
    wrote, left, not_written = (output.split("\n\n")[0]).split(":\n")[1:]
    assert "  feature_assets/shop/groups.py\n" in wrote
    assert "  data/purchases/ (14 files)\n" in wrote
    assert left.split()[:3] == [".env", "pyproject.toml", "resources/__init__.py"]
    assert set(not_written.split()) == FRAME - {"pyproject.toml"}
    assert 'defs = dg.Definitions.merge(defs, feature_store_definitions("feature_assets.shop"))' in output
    assert "  FEATURE_STORE_DEFINITIONS=feature_assets.shop\n" in output


def test_adding_again_writes_nothing(tmp_path):
    run_command("init", "--into", ".")
    (tmp_path / "feature_assets/shop/groups.py").write_text("mine")
    before = contents(tmp_path)
    assert "Wrote" not in run_command("init", "--into", ".").output
    assert contents(tmp_path) == before


def test_what_would_hide_a_module_or_has_no_place_is_refused(tmp_path):
    (tmp_path / "resources.py").write_text("mine")
    assert "would hide the module resources.py" in run_command("init", "--into", ".", code=1).stderr
    (tmp_path / "resources.py").rename(tmp_path / "data")
    assert "'data' is not a folder" in run_command("init", "--into", ".", code=1).stderr
    assert "There is no folder 'nowhere'" in run_command("init", "--into", "nowhere", code=1).stderr
    assert contents(tmp_path) == {"data": b"mine"}


@pytest.mark.parametrize(
    "path",
    [
        "feature_assets/__init__.py",
        "feature_assets/definitions.py",
        "resources/__init__.py",
        "resources/feature_store.py",
        "sensors/__init__.py",
        "sensors/automation.py",
        "workspace.yaml",
    ],
)
def test_the_scaffold_is_this_repository_but_for_the_domain(path):
    assert (SCAFFOLD / path).read_text() == (ROOT / path).read_text().replace("flights", "shop")


def test_all_but_the_domain_is_compared():
    """A new file beside those above, in the scaffold, has to be one of the repository's."""
    frame = [path for folder in ("resources", "sensors") for path in (SCAFFOLD / folder).glob("*.py")]
    frame += (SCAFFOLD / "feature_assets").glob("*.py")
    assert len(frame) == 6


def test_the_domain_knows_no_dagster():
    for path in (SCAFFOLD / "feature_assets" / "shop").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if "dagster" in name], path


def test_the_scaffold_reaches_the_wheel():
    """No file of it has a name that the build leaves out: those of .gitignore."""
    ignored = (ROOT / ".gitignore").read_text().split()
    names = {part for path in SCAFFOLD.rglob("*") for part in path.relative_to(SCAFFOLD).parts} - {"__pycache__"}
    assert names.isdisjoint(pattern.rstrip("/") for pattern in ignored)


@pytest.mark.gate
def test_the_project_passes_its_own_test(tmp_path):
    run_command("init", "shop")
    assert "1 passed" in run_script("python -m pytest -q -p no:cacheprovider", tmp_path / "shop")


@pytest.mark.gate
@pytest.mark.timeout(400)
def test_every_command_of_its_readme_is_true(tmp_path):
    run_command("init", "shop")
    project = tmp_path / "shop"
    readme = (project / "README.md").read_text()
    first, own_feature = commands(readme)
    changes = [(re.sub(r"^\+.*\n", "", diff, flags=re.MULTILINE), diff) for diff in blocks(readme, "diff")]
    try:
        assert "spent_7d\t27547\tpresent" in run_script(first, project)
        groups = project / "feature_assets" / "shop" / "groups.py"
        text = groups.read_text()
        for before, diff in changes:
            # The first column of a diff is no part of the line.
            old, new = (re.sub(r"^[ +]", "", part, flags=re.MULTILINE) for part in (before, diff))
            assert text.count(old) == 1
            text = text.replace(old, new)
        groups.write_text(text)
        told = run_script(own_feature, project)
        assert "BROKEN" not in told
        assert "largest_7d\t7772\tpresent" in told
        # The verbs of the Makefile that end by themselves.
        assert "buys_again" in run_script("make\nmake materialize train", project)
    finally:
        run_script("make stop", project)


@pytest.mark.gate
@pytest.mark.timeout(400)
def test_dagster_loads_it_and_its_types_are_strict(tmp_path):
    run_command("init", "shop")
    told = run_script("dagster definitions validate", tmp_path / "shop")
    assert "Validation successful for code location feature_store" in told
    words = [str(BINARIES / "mypy"), "--strict", "--python-executable", sys.executable]
    words += ["-p", "feature_assets", "-p", "resources", "-p", "sensors"]
    done = subprocess.run(words, cwd=tmp_path / "shop", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.gate
def test_the_line_for_ones_own_definitions_is_true(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.dagster]\nmodule_name = "mine"\n')
    output = run_command("init", "--into", ".").output
    lines = output.partition("below `defs = ...`:\n\n")[2].partition("\n\nThen")[0]
    head = "import dagster as dg\n\n\n@dg.asset\ndef own() -> None: ...\n\n\ndefs = dg.Definitions(assets=[own])\n"
    (tmp_path / "mine.py").write_text(head + "\n".join(line.strip() for line in lines.splitlines() if "  " in line[:2]))
    assert "feature_store_definitions" in (tmp_path / "mine.py").read_text()
    assert "Validation successful" in run_script("dagster definitions validate", tmp_path)
