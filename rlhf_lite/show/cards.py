"""Show texts, claims, predictions and errors as cards of HTML.

Text from a model or a student is data: it is escaped before it becomes HTML. Used by all.
"""

import html
import io

from rlhf_lite.checks import TextError, check_texts
from rlhf_lite.predictions import COLOURS, PredictionError, show_measured, show_rule
from rlhf_lite.show.alt import alt_text
from rlhf_lite.show.style import CARD_GROUND, GREEN, REFERENCE, WARNING, ink_of

import matplotlib.pyplot as plt
import numpy as np


def predictions_html(predictions, verdicts=None):
    """Return a table of predictions as HTML, with verdicts where they are given.

    A verdict stands beside the first one, which a prediction got under the rules of before.
    """
    if verdicts and len(verdicts) != len(predictions):
        raise PredictionError(
            f"{len(verdicts)} verdicts for {len(predictions)} predictions; expected one each"
        )
    names = ["", "kind", "we predict", "rule", "how sure"]
    names += ["measured", "verdict", "at first"] if verdicts else []
    rows = []
    for number, p in enumerate(predictions):
        says = f"{html.escape(p.says)} <i>({html.escape(p.source)})</i>"
        kind = p.kind if p.kind == "EXACT" else f"{p.kind}, {p.group}"
        name = f'<span style="white-space:nowrap">{html.escape(p.id)}</span>'
        rows.append([name, kind, says, show_rule(p), f"{p.credence:.0%}"])
        if verdicts:
            v = verdicts[number]
            word = f'<b style="color:{COLOURS[v.word]};{BADGE}">{v.word}</b>'
            word += f"<br>{html.escape(v.why)}" if v.why else ""
            rows[-1] += [
                f"{show_measured(v)}, {v.seeds} seed{'s' * (v.seeds > 1)}",
                word,
                p.first_verdict.lower(),
            ]
    style = "text-align:left;vertical-align:top;padding:4px 10px;white-space:normal"
    cells = ["".join(f'<td style="{style}">{cell}</td>' for cell in row) for row in rows]
    cells.insert(0, "".join(f'<th scope="col" style="{style}">{name}</th>' for name in names))
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


BADGE = f"background:{CARD_GROUND};padding:1px 5px"  # so that colours are read in dark themes too
AS_DRAWN = {"max_width": "100%", "align_self": "flex-start"}  # a box would stretch its pictures
CARD = (
    "border-left:6px solid {colour};padding:4px 10px;margin:5px 0;"
    f"background:{CARD_GROUND};"
    "color:#222;font-size:13px;line-height:1.45;max-width:820px"
)
NOBODY = REFERENCE
FAULT = f"text-decoration:underline wavy {WARNING}"
VERDICTS = {"true": ("✓", GREEN), "false": ("✗", WARNING), "unsupported": ("?", NOBODY)}


def document_html(world, text, prompt=""):
    """Return one document as HTML.

    Its likeliest voice is a coloured label, the prompt is bold, and what fits no frame of the
    grammar carries a wavy red underline.
    """
    check_texts([text, prompt], "[text, prompt]")
    parse = world.parse(text)
    best = int(np.argmax(parse.voices))
    sure = parse.voices[best]
    name = world.voices[best] if sure else "no single voice"
    colour = world.colours[world.voices[best]] if sure else NOBODY
    off = {line.text: line.off[0] for line in parse.lines if line.off}
    rows, bold = [], len(prompt) if text.startswith(prompt) else 0
    bold -= len(text) - len(text.lstrip("\n"))
    for row in text.strip("\n").split("\n"):
        asked = min(max(0, bold), len(row))
        bold -= len(row) + 1
        fault = max(off.get(row, len(row)), asked)
        shown = f"<b>{html.escape(row[:asked])}</b>{html.escape(row[asked:fault])}"
        rows.append(shown + f'<span style="{FAULT}">{html.escape(row[fault:])}</span>')
    label = f'<b style="color:{ink_of(colour)}">{html.escape(name)}</b>'
    label += f' <span style="color:#666">{sure:.0%}</span>' if sure else ""
    style = CARD.format(colour=colour)
    return f'<div style="{style}">{label}<br>{"<br>".join(rows)}</div>'


def documents_html(world, texts, prompts=None):
    """Return several documents as one piece of HTML; show it with `IPython.display.HTML`."""
    texts = check_texts(texts)
    prompts = check_texts(prompts or [""] * len(texts), "prompts")
    if len(prompts) != len(texts):
        raise TextError(f"{len(prompts)} prompts for {len(texts)} texts; expected one each")
    return "".join(document_html(world, t, p) for t, p in zip(texts, prompts))


def claims_html(world, text, note=""):
    """Return a text as HTML with the verdict on each of its claims behind its line.

    A verdict is true, false or unsupported. note: a sentence above the text.
    """
    check_texts([text, note], "[text, note]")
    rows = []
    for line in world.parse(text).lines:
        marks = "".join(
            f' <span style="color:{VERDICTS[c.verdict][1]};font-size:12px">'
            f"{VERDICTS[c.verdict][0]}&nbsp;{html.escape(c.kind)}</span>"
            for c in line.claims
        )
        rows.append(html.escape(line.text) + marks)
    head = f'<span style="color:#666">{html.escape(note)}</span><br>' if note else ""
    return f'<div style="{CARD.format(colour="#CCCCCC")}">{head}{"<br>".join(rows)}</div>'


def error_html(error):
    """Return what went wrong as a sentence in the colour of warnings."""
    return f"<b style='color:{WARNING};{BADGE}'>{html.escape(str(error))}</b>"


def figure_png(figure):
    """Return a figure as PNG bytes, in the dots of `use_style` and with its text; close it."""
    buffer, metadata = io.BytesIO(), {"Description": alt_text(figure)}
    figure.savefig(buffer, format="png", dpi="figure", metadata=metadata)
    plt.close(figure)
    return buffer.getvalue()
