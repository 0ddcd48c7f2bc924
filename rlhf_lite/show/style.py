"""Set the one look of all figures: colours by role, and the scale for the projector in class.

The roles have the hues of Okabe and Ito's palette for colour-blind readers, dark enough for WCAG
2.1: 3 to 1 on white for what is drawn and, REWARD and SKY apart, 4.5 to 1 on a card for what is
written. Omits themes: figures and cards are light in dark ones too. Used by every notebook.
"""

from rlhf_lite.show.alt import describe_figures

import matplotlib.pyplot as plt
from matplotlib.colors import to_hex, to_rgb

REFERENCE, POLICY, REWARD, KL, WARNING = "#707070", "#0072B2", "#C48700", "#A0468F", "#BE5400"
INK, GREEN, SKY = "#2B2B2B", "#007A4D", "#4B9DCB"
CARD_GROUND, TEXT, PARTS = "#FAFAFA", 4.5, 3.0  # and the least contrasts [ratio] by WCAG 2.1


def contrast(one, other):
    """Return the contrast of two colours by WCAG 2.1, 1 to 21 [ratio].

    Example: `contrast("black", "white")`.
    """
    lights = [_luminance(colour) + 0.05 for colour in (one, other)]
    return max(lights) / min(lights)


def _luminance(colour):
    """Return the relative luminance of a colour, 0 to 1."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def ink_of(colour):
    """Return a colour, darkened as far as a text in it needs to be read on a card or on white."""
    share = 1.0
    while contrast(dark := to_hex([share * c for c in to_rgb(colour)]), CARD_GROUND) < TEXT:
        share -= 0.01
    return dark


def ink_on(colour):
    """Return white or black, whichever is read on a colour."""
    return "white" if contrast("white", colour) >= TEXT else "black"


def use_style(scale=1.0):
    """Set the look of all figures; `use_style(1.4)` is for the projector in class.

    The scale is that of the dots, so every figure grows as it is, whatever size it asks for. From
    here on every figure carries its text, see `alt_text`.
    """
    describe_figures()
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
