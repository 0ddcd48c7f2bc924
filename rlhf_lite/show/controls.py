"""Make the controls that widgets share: boxes that lose nothing, a stack that says what is wrong.

Omits state: nothing is saved. Used by the explorers and the labelling desk.
"""

from rlhf_lite.checks import TextError
from rlhf_lite.sampling import SamplingError
from rlhf_lite.show.cards import AS_DRAWN, error_html
from rlhf_lite.show.view import View, spoken

import ipywidgets
import traitlets


class Line(ipywidgets.Text):
    """A box that does not echo: half a character in the message would lose what was typed."""

    value = traitlets.Unicode("").tag(sync=True, echo_update=False)


class Area(ipywidgets.Textarea):
    """A larger box that does not echo, for the same reason."""

    value = traitlets.Unicode("").tag(sync=True, echo_update=False)


def explorer(rows, watched, show, cards=True):
    """Stack rows of controls over a sentence, a picture and cards; return (view, draw).

    watched: the controls whose new value draws everything anew; show: a function without arguments
    that returns the sentence (HTML), the cards (HTML) and the picture (PNG). Where it raises
    SamplingError or TextError, that is the sentence, and the rest stays. cards: whether there are
    any. The picture is as wide as it was drawn, so in class mode it grows.
    """
    status, below = spoken(ipywidgets.HTML()), ipywidgets.HTML()
    picture = ipywidgets.Image(format="png", layout=AS_DRAWN | {"visibility": "hidden"})

    def draw(_=None):
        try:
            status.value, below.value, picture.value = show()
        except (SamplingError, TextError) as error:
            status.value = error_html(error)
        else:
            picture.layout.visibility = "visible"

    for control in watched:
        control.observe(draw, "value")
    draw()
    return View([*rows, status, picture, *([below] if cards else [])]), draw


def reset_button(*controls):
    """Make a button that gives controls back the values that they have now."""
    start, button = [c.value for c in controls], ipywidgets.Button(description="Reset")

    def put_back(_):
        for control, value in zip(controls, start):
            control.value = value

    button.on_click(put_back)
    return button
