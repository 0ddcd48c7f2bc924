"""Edit notebooks for accessibility; run in a checkout's root. Idempotent, keyed on exact strings.

    python waiting/apply/a11y_notebooks.py
"""
import json
from pathlib import Path

EDITS = {
    "05_mode_collapse": [
        ("ipywidgets.VBox([distance, picture])", "show.View([distance, picture])"),
        ('show.WARNING, "#009E73"]', "show.WARNING, show.GREEN]"),
    ],
    "13_beyond_ppo": [("ipywidgets.VBox([slider, image])", "show.View([slider, image])")],
    "04b_price": [
        ('show.REFERENCE, "#56B4E9", "#CC79A7"', 'show.REFERENCE, show.SKY, "#CC79A7"'),
        ("color=show.WARNING, alpha=0.75)", "color=show.WARNING)"),
    ],
    "08_hallucination": [
        ('left.text(1.02, y[-1], arm, color=colour, va="center", fontsize=9)',
         'left.text(1.02, y[-1], arm, color=show.ink_of(colour), va="center", fontsize=9)'),
    ],
    "10_jailbreaks": [
        ('ax.imshow([bare, *table], cmap="Oranges", vmin=0, vmax=1)',
         'shades = ax.imshow([bare, *table], cmap="Oranges", vmin=0, vmax=1).cmap'),
        ('colour = "white" if value > 0.6 else show.INK', "colour = show.ink_on(shades(value))"),
    ],
    "12_less_is_more": [
        ('color="white" if abs(rate - 0.5) > 0.25 else show.INK)', "color=show.ink_on(image.cmap(rate)))"),
    ],
}
for name, pairs in EDITS.items():
    path = Path("notebooks") / f"{name}.ipynb"
    text = path.read_text(encoding="utf-8")
    for old, new in ((json.dumps(a, ensure_ascii=False)[1:-1], json.dumps(b, ensure_ascii=False)[1:-1]) for a, b in pairs):
        if old in text:
            text = text.replace(old, new)
            print(name, "edited:", new)
        else:
            print(name, "already" if new in text else "NOT FOUND:", old if new not in text else new)
    path.write_text(text, encoding="utf-8")
