"""Build the web site from the stored notebooks, offline: `python scripts/site.py`.

The folder that it writes, build/site by default, opens by a double-click on its index.html.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
SCRIPTS = ROOT / "scripts"
MARK = ".aecourse-site"  # in the folder of a site: it may be replaced
SPHINX = ["-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]


def write_explorers(folder: Path) -> None:
    """Write explorers.js and explorers/NAME.js, the data of each, into the folder."""
    from aecourse.widgets import explorer  # takes seconds, while Sphinx is at work

    (folder / "explorers").mkdir(parents=True)
    (folder / "explorers.js").write_text(explorer.script(), encoding="utf-8")
    for name in explorer.NAMES:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            text = explorer.data_script(name)
        (folder / "explorers" / f"{name}.js").write_text(text, encoding="utf-8")


def build(out: Path) -> None:
    """Write the site into the folder `out`, anew. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as scratch:
        source, explorers, made = (Path(scratch, name) for name in ("source", "explorers", "made"))
        shutil.copytree(ROOT / "site", source)
        for path in NOTEBOOKS.glob("[0-9]*.ipynb"):
            shutil.copy(path, source)
        command = [sys.executable, *SPHINX, "-d", Path(scratch, "doctrees"), source, made]
        with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(SCRIPTS)}) as sphinx:
            write_explorers(explorers)
        if sphinx.returncode:
            raise subprocess.CalledProcessError(sphinx.returncode, command)
        shutil.copytree(explorers, made / "_static", dirs_exist_ok=True)
        (made / "notebooks").mkdir()
        for path in NOTEBOOKS.glob("[0-9]*.ipynb"):
            shutil.copy(path, made / "notebooks")
        (made / MARK).write_text("scripts/site.py writes this folder anew each time\n")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build/site", help="the folder to write")
    args = parser.parse_args(argv)
    if args.out.exists() and not (args.out / MARK).exists():
        print(f"{args.out} is there already, and it is not a site of this course", file=sys.stderr)
        return 1
    start = time.perf_counter()
    try:
        build(args.out)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        print(f"the site was not built: {error}", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    seconds = time.perf_counter() - start
    print(f"{args.out / 'index.html'}: {size / 1e6:.1f} MB in {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
