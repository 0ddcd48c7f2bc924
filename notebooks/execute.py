"""Run notebooks from top to bottom in a clean kernel and save their outputs.

    python notebooks/execute.py [NAME ...]

Without names it runs all, solutions included. A cell tagged figure-NAME also writes its picture to
figures/NAME.png. It drops widget state and other metadata that git should not see.
"""

import base64
import io
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent


def clean(book):
    """Drop what does not belong in git.

    Widget state, timings, kernel versions, views of dead widgets. Of a picture its text stays.
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
            alt = output.get("metadata", {}).get("image/png", {}).get("alt")
            output.get("metadata", {}).clear()
            if "image/png" in output.get("data", {}):
                output["metadata"].update({"image/png": {"alt": alt}} if alt else {})
                output["data"].pop("text/html", None)  # the same picture, for JupyterLab's sake
                output["data"]["image/png"] = lighten(output["data"]["image/png"])
    return book


def lighten(png):
    """Return a base64 PNG with a palette of 96 colours, a quarter of the size.

    Chosen to cover what occurs, so that a legend's small dots keep their colours, and then moved to
    what is frequent, so that grey grid lines stay grey.
    """
    image, buffer = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), io.BytesIO()
    image.quantize(96, Image.Quantize.MAXCOVERAGE, kmeans=1).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def export_figures(book, folder):
    """Write the pictures of the cells tagged figure-NAME to folder/NAME.png."""
    for cell in book.cells:
        for tag in cell.metadata.get("tags", []):
            for output in cell.get("outputs", []) if tag.startswith("figure-") else []:
                if "image/png" in output.get("data", {}):
                    png = base64.b64decode(output["data"]["image/png"])
                    (folder / f"{tag[7:]}.png").write_bytes(png)


def execute(path, timeout=1200):
    """Run one notebook in its own folder; return (notebook, seconds).

    The notebook comes back executed and cleaned, with the seconds that it took.
    """
    book, start = nbformat.read(path, as_version=4), time.time()
    client = NotebookClient(
        book, timeout=timeout, kernel_name="python3", coalesce_streams=True,
        resources={"metadata": {"path": path.parent}},
    )  # fmt: skip
    client.execute()
    return clean(book), time.time() - start


if __name__ == "__main__":
    names = [Path(n) for n in sys.argv[1:]]
    for path in names or sorted([*HERE.glob("*.ipynb"), *HERE.glob("solutions/*.ipynb")]):
        book, seconds = execute(path)
        nbformat.write(book, path)
        export_figures(book, HERE / "figures")
        print(f"{path.name}: {seconds:.0f} s")
