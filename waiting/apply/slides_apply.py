"""Set the slide types of all lessons by rule, and the few that a rule gets wrong by hand. Idempotent.

    python waiting/apply/slides_apply.py CLONE

HAND: notebook, first line of the cell's source, type. Cells that are no longer there are named, and
left to the rule. Runs CLONE/notebooks/slides.py --anew at the end, which prints what a talk does wrong.
"""

import subprocess
import sys
from pathlib import Path

import nbformat

HAND = [
    # Eight voices at once are taller than a screen, and the course begins with them.
    ("01_base_model_sampling", "HTML(show.documents_html(world, [d.text for d in documents])", "-"),
    # What this machine has is no matter for a talk.
    ("14_scaling_up", 'print(f"it is not here, and the cells below show the record: {error}")', "skip"),
    ("14_scaling_up", "print(launching.lack())", "skip"),
]
root = Path(sys.argv[1])
for path in sorted((root / "notebooks").glob("[0-9]*.ipynb")):
    book = nbformat.read(path, as_version=4)
    stale = [c for c in book.cells if c.metadata.get("slideshow", {}).get("slide_type") == "-"]
    for cell in stale:  # jupyterlab-deck hides them
        cell.metadata["slideshow"] = {"slide_type": None}
    if stale:
        nbformat.write(book, path)
for name, line, kind in HAND:
    path = root / "notebooks" / f"{name}.ipynb"
    book = nbformat.read(path, as_version=4)
    cells = [c for c in book.cells if c.source.rstrip().split("\n")[-1].strip().startswith(line)]
    if len(cells) != 1:
        print(f"{name}: {len(cells)} cells end in {line!r}; left to the rule")
        continue
    tags = cells[0].metadata.setdefault("tags", [])
    if "slide-by-hand" not in tags:
        tags.append("slide-by-hand")
    cells[0].metadata["slideshow"] = {"slide_type": None if kind == "-" else kind}
    nbformat.write(book, path)
subprocess.run([sys.executable, str(root / "notebooks" / "slides.py"), "--anew"], check=True)
