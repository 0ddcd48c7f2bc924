"""Set the one look of all figures: colours by role, and the scale for the projector in class.

Omits themes. Used by every notebook.
"""

import matplotlib.pyplot as plt

REFERENCE, POLICY, REWARD, KL, WARNING = "#7F7F7F", "#0072B2", "#E69F00", "#9467BD", "#D55E00"
INK, GREEN = "#2B2B2B", "#009E73"


def use_style(scale=1.0):
    """Set the look of all figures; `use_style(1.4)` is for the projector in class.

    The scale is that of the dots, so every figure grows as it is, whatever size it asks for.
    """
    plt.rcParams.update(
        {
            "figure.figsize": (6, 3.5),
            "figure.dpi": 100 * scale,
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.labelsize": 10,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E6E6E6",
            "grid.linewidth": 0.8,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "lines.linewidth": 1.8,
        }
    )
