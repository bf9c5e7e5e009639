"""Usage: cargo tree ... --format '{p}' | licences.py METADATA FOLDER

Copies into FOLDER the licence files of each package on standard input ("name vVERSION ..." a line), as its crate ships
them, and a list of the packages, crates.txt. METADATA is a file with what `cargo metadata` says. Members of the workspace
have no folder: the LICENSE of the repository is theirs. Fails if a package has no licence file.
"""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import sys

# Licences and notices, as crates name them. A folder LICENSES is what the REUSE specification asks for.
LICENCE_FILE = re.compile(r"(un)?licen[cs]es?|copying|copyright|notices?", re.IGNORECASE)


def main() -> None:
    metadata, folder = sys.argv[1:]
    metadata = json.loads(pathlib.Path(metadata).read_text())
    packages = {(one["name"], one["version"]): one for one in metadata["packages"]}
    named = {tuple(line.split()[:2]) for line in sys.stdin if line.strip()}
    linked = [packages[name, version.removeprefix("v")] for name, version in sorted(named)]
    foreign = [package for package in linked if package["id"] not in metadata["workspace_members"]]
    without = [package for package in foreign if not copy(package, pathlib.Path(folder))]
    if without:
        sys.exit("\n".join(map(complaint, without)))
    lines = [f"{one['name']} {one['version']}: {one['license']}\n" for one in foreign]
    pathlib.Path(folder, "crates.txt").write_text("".join(lines))


def copy(package: dict, folder: pathlib.Path) -> int:
    """Copies the licence files of a package and returns how many there were."""
    root = pathlib.Path(package["manifest_path"]).parent
    files = licence_files(root, package["license_file"])
    for file in files:
        target = folder / f"{package['name']}-{package['version']}" / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return len(files)


def licence_files(root: pathlib.Path, declared: str | None) -> set[pathlib.Path]:
    """All files with the name of a licence at the root of a crate or below a folder with such a name, and the one that
    its manifest declares."""
    found = {root / declared} if declared else set()
    for entry in root.iterdir():
        if LICENCE_FILE.match(entry.name):
            found.update(entry.rglob("*") if entry.is_dir() else [entry])
    return {file for file in found if file.is_file()}


def complaint(package: dict) -> str:
    """What is wrong with a package without a licence file, and what helps."""
    name, licence, root = package["name"], package["license"], package["manifest_path"]
    return (
        f"licences: error: {name} {package['version']} ({licence}) ships no licence file; looked beside {root}\n"
        "  The image must have the licence texts of all it links. Take a version that ships them, or another crate."
    )


if __name__ == "__main__":
    main()
