import io
import shutil
import subprocess
import zipfile

import pytest

from study.cluster import package


@pytest.fixture
def checkout(tmp_path):
    """A git checkout with files that stay in it."""
    root = tmp_path / "checkout"
    contents = {
        "study/__init__.py": "", "moe/data/cache.py": "x = 1", "README.md": "read", "deploy/production.yaml": "a: 1",
        "notes": "", "moe/ignored.py": "", ".gitignore": "ignored.*\n",
    }  # fmt: skip
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    for command in ("init -q .", "add -A"):
        subprocess.run(["git", *command.split()], cwd=root, check=True)
    (root / "moe" / "untracked.py").write_text("")
    return root


def test_a_job_gets_the_tracked_files_of_the_two_packages_and_nothing_else(checkout):
    assert package.files(checkout) == ["moe/data/cache.py", "study/__init__.py"]
    (checkout / "moe" / "data" / "cache.py").unlink()
    assert package.files(checkout) == ["study/__init__.py"]


def test_outside_a_checkout_a_job_gets_the_installed_modules(checkout):
    shutil.rmtree(checkout / ".git")
    modules = ["moe/data/cache.py", "moe/ignored.py", "moe/untracked.py", "study/__init__.py"]
    assert package.files(checkout) == modules


def test_a_job_gets_the_space_file_too_and_the_same_files_are_the_same_bytes(checkout):
    space = checkout.parent / "space.yaml"
    space.write_text("epochs: 1")
    archive = package.zipped(space, checkout)
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        assert packed.namelist() == ["moe/data/cache.py", "study/__init__.py", "submitted/space.yaml"]
        assert packed.read("submitted/space.yaml") == b"epochs: 1"
    (checkout / "moe" / "data" / "cache.py").touch()
    assert package.zipped(space, checkout) == archive


def test_this_project_is_a_package():
    assert {"study/run.py", "moe/pipeline.py", "study/cluster/preflight.py"} <= set(package.files())
