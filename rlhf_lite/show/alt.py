"""Say in words what a figure shows: the text that stands for a picture where it cannot be seen.

The words are read off the drawing: titles, axes, and where curves, bars and dots lie. Omits what it
means, which the prose beside it says. `figure.set_label("...")` puts a text by hand in their place.
Used by all.
"""

import html
import warnings

import numpy as np
from IPython import get_ipython
from IPython.core.pylabtools import print_figure
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure

LONGEST, MOST = 1200, 12  # characters of a text; bars, ticks or notes that are listed one by one


def alt_text(figure):
    """Return what a figure shows, in sentences: its panels and what lies in them. Never raises."""
    try:
        with warnings.catch_warnings(action="ignore"):
            panels = [_panel(ax) for ax in figure.axes if ax.get_visible()]
        said = figure.get_label() or " ".join([figure.get_suptitle(), *panels])
    except Exception as error:  # a drawing of a kind not known here is still worth showing
        said = f"A figure that could not be put into words ({type(error).__name__})."
    said = " ".join(said.split()) or "An empty figure."
    return said if len(said) <= LONGEST else said[:LONGEST].rpartition(" ")[0] + " …"


def describe_figures():
    """Let every figure that a notebook shows take its text along; elsewhere do nothing.

    As the picture's `alt`, and as an HTML image, the only one to which JupyterLab gives an
    alternative text.
    """
    if shell := get_ipython():
        shell.display_formatter.mimebundle_formatter.for_type(Figure, _bundle)


def _bundle(figure, include=None, exclude=None):
    """Return (data, metadata) beside a figure's picture, nothing where it has none."""
    said, png = alt_text(figure), print_figure(figure, base64=True)
    image = f'<img alt="{html.escape(said)}" src="data:image/png;base64,{png}">'
    return ({"text/html": image}, {"image/png": {"alt": said}}) if png else ({}, {})


def _panel(ax):
    """Describe one Axes."""
    names = {axis.axis_name: _names(axis) for axis in (ax.xaxis, ax.yaxis)}
    title = " ".join(filter(None, (ax.get_title(side) for side in ("left", "center", "right"))))
    axes = "; ".join(filter(None, (_axis(a, names[a.axis_name]) for a in (ax.xaxis, ax.yaxis))))
    parts = [title, axes, *_lines(ax, names), *_bars(ax, names), *_others(ax)]
    return " ".join(p if p[-1] in ".?!" else f"{p}." for p in parts if p.strip())


def _names(axis):
    """Return {place: label} of the ticks of an axis whose labels are not the numbers there."""
    labels = [text.get_text() for text in axis.get_ticklabels()]
    found = {place: label for place, label in zip(axis.get_ticklocs(), labels) if label}
    return found if any(not _number(label, place) for place, label in found.items()) else {}


def _number(label, place):
    """Tell whether a label is the number at its place, or a power of ten."""
    plain = label.replace("\N{MINUS SIGN}", "-").replace(",", "").removesuffix("%")
    try:
        return np.isclose(float(plain), place * (100 if label[-1] == "%" else 1), rtol=0.05)
    except ValueError:
        return "mathdefault" in label


def _axis(axis, names):
    """Say what an axis measures, and from where to where."""
    span = " to ".join(_at({}, end) for end in sorted(axis.get_view_interval()))
    span += ", logarithmic" * (axis.get_scale() == "log")
    if names:
        span = ", ".join(names.values()) if len(names) <= MOST else f"{len(names)} names"
    said = ", ".join(filter(None, (axis.get_label_text(), span)))
    return f"{axis.axis_name}: {said}" if names or said != span else ""


def _at(names, value):
    """Return the name of a place, else its number."""
    near = min(names, key=lambda place: abs(place - value), default=np.inf)
    if abs(near - value) < 0.45:
        return names[near]
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _label(artist):
    """Return the label of what is drawn, empty where it has none."""
    label = str(artist.get_label())
    return "" if label.startswith("_") else label


def _lines(ax, names):
    """Say of every curve with a name where it begins, turns and ends."""
    curves = [(_label(line), line) for line in ax.lines]
    bars = (c for c in ax.containers if isinstance(c, ErrorbarContainer) and c.lines[0])
    curves += [(_label(c), c.lines[0]) for c in bars]
    for label, line in curves:
        x, y = (np.ma.filled(np.ma.asarray(v, float), np.nan) for v in line.get_data(orig=False))
        if label and np.isfinite(y).any():
            dots = line.get_linestyle() == "None" and len(y) <= MOST
            yield f"{label}: {_course(x, y, names, dots)}"


def _course(x, y, names, dots):
    """Say how a curve goes: its ends, highest and lowest point; of dots each."""
    if len(y) > 1 and np.ptp(y) == 0 and not dots:
        return f"{_at(names['y'], y[0])} throughout"
    turns = {int(np.nanargmax(y)): "highest ", int(np.nanargmin(y)): "lowest "}
    turns |= dict.fromkeys(range(len(y)) if dots else (0, len(y) - 1), "")
    return ", ".join(
        f"{turns[k]}{_at(names['y'], y[k])} at {_at(names['x'], x[k])}" for k in sorted(turns)
    )


def _bars(ax, names):
    """Say how long bars are, those of a name together; one of no length is a legend's."""
    groups = {}
    for bars in (c for c in ax.containers if isinstance(c, BarContainer)):
        side = "y" if bars.orientation == "horizontal" else "x"
        for size, bar in zip(bars.datavalues, bars):
            if size:
                place = np.mean(getattr(bar.get_bbox(), f"interval{side}"))
                groups.setdefault(_label(bars), []).append((_at(names[side], place), size))
    for label, found in groups.items():
        sizes = [size for _, size in found]
        said = f"{len(found)} bars, {_at({}, min(sizes))} to {_at({}, max(sizes))}"
        if len(found) <= MOST:
            said = ", ".join(f"{name} {_at({}, size)}" for name, size in found)
        yield f"{label or 'Bars'}: {said}"


def _others(ax):
    """Name clouds of dots and areas, maps, and what is written into a panel."""
    for cloud in filter(_label, ax.collections):
        yield f"{_label(cloud)}: {len(cloud.get_offsets())} marked"
    for image in ax.images:
        rows, columns = image.get_array().shape[:2]
        ends = (_at({}, end(image.get_array())) for end in (np.nanmin, np.nanmax))
        yield f"A map of {rows} by {columns}, {' to '.join(ends)}"
    said = [text.get_text() for text in ax.texts if text.get_text().strip()]
    if said:
        yield f"Written: {'; '.join(said)}" if len(said) <= MOST else f"{len(said)} notes in it"
