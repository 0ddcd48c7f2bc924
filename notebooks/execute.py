"""Run notebooks from top to bottom in a clean kernel and save their outputs: `python
notebooks/execute.py [NAME ...]`.

Without names it runs all, solutions included. It drops widget state and other metadata that git
should not see.
"""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def clean(book):
    """Drop what does not belong in git: widget state, timings, kernel versions, views of dead
    widgets.
    """
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in book.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags", "slideshow")}
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
            if "VBox(" in output.get("data", {}).get("text/plain", ""):
                output["data"]["text/plain"] = "A widget: run the notebook to use it."
            output.get("metadata", {}).clear()
    return book


def execute(path, timeout=1200):
    """Run one notebook in its own folder; return it, executed and cleaned, and the seconds it
    took.
    """
    book, start = nbformat.read(path, as_version=4), time.time()
    client = NotebookClient(
        book, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    )
    client.execute()
    return clean(book), time.time() - start


if __name__ == "__main__":
    names = [Path(n) for n in sys.argv[1:]]
    for path in names or sorted([*HERE.glob("*.ipynb"), *HERE.glob("solutions/*.ipynb")]):
        book, seconds = execute(path)
        nbformat.write(book, path)
        print(f"{path.name}: {seconds:.0f} s")
