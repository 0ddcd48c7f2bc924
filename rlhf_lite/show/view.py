"""Give the controls of a widget names, and its pictures and sentences to those who cannot see them.

ipywidgets draws sliders without a name, whose spoken value is a place or an exponent, toggles
without their state and pictures without a text. `View` mends that in the browser, where scripts
run; elsewhere it is a plain VBox. Used by all widgets.
"""

import html
import io

import ipywidgets
from PIL import Image

SCRIPT = """
const put = (part, name, value) => {
  if (part && part.getAttribute(name) !== value) part.setAttribute(name, value);
};
const texts = (view, part) => [...view.querySelectorAll(part + " .widget-html-content")];
function name(view) {
  for (const slider of view.querySelectorAll(".widget-slider")) {
    const [label, handle, readout] = [".widget-label", ".noUi-handle", ".widget-readout"].map(
      (part) => slider.querySelector(part));
    put(handle, "aria-label", label.textContent);
    put(handle, "aria-valuetext", readout.textContent);
    put(readout, "role", "textbox");
    put(readout, "aria-label", label.textContent + ", value");
  }
  for (const box of view.querySelectorAll("textarea[title]")) put(box, "aria-label", box.title);
  for (const group of view.querySelectorAll(".widget-toggle-buttons")) {
    put(group, "role", "group");
    put(group, "aria-label", group.querySelector(".widget-label").textContent);
  }
  for (const button of view.querySelectorAll(".widget-toggle-button"))
    put(button, "aria-pressed", String(button.classList.contains("mod-active")));
  for (const said of texts(view, ".rlhf-said")) put(said, "role", "status");
  const alts = texts(view, ".rlhf-alt").map((part) => part.textContent);
  view.querySelectorAll("img.widget-image").forEach((image, k) => put(image, "alt", alts[k] || ""));
}
let tries = 300;
const wait = setInterval(() => {
  const view = element.closest(".rlhf-view");
  if (!view && tries--) return;
  clearInterval(wait);
  if (!view) return;
  const changes = {attributes: true, attributeFilter: ["aria-valuetext", "class", "src"]};
  new MutationObserver(() => name(view)).observe(
    view, {...changes, subtree: true, childList: true, characterData: true});
  name(view);
}, 100);
"""


class View(ipywidgets.VBox):
    """A VBox whose parts have names, states and texts for a screen reader, once it is shown."""

    def _repr_mimebundle_(self, **kwargs):
        return self.dressed()._repr_mimebundle_(**kwargs)

    def dressed(self):
        """Return what a notebook shows: the view, unseen texts of its pictures, the script."""
        hidden = {"layout": {"display": "none"}}
        alts = [_alt(picture, ipywidgets.HTML(**hidden)) for picture in _pictures(self)]
        data = {"application/javascript": SCRIPT}
        output = {"output_type": "display_data", "data": data, "metadata": {}}
        script = ipywidgets.Output(outputs=(output,), **hidden)
        return ipywidgets.VBox([self, *alts, script]).add_class("rlhf-view")


def spoken(widget):
    """Let a screen reader say what an HTML widget holds whenever it changes; return the widget."""
    return widget.add_class("rlhf-said")


def _pictures(view):
    """List the pictures in a view, in the order in which they stand."""
    inside = [p for child in getattr(view, "children", ()) for p in _pictures(child)]
    return [view] if isinstance(view, ipywidgets.Image) else inside


def _alt(picture, text):
    """Keep in `text` what a picture says of itself, as `figure_png` wrote it into the PNG."""

    def tell(_=None):
        png = Image.open(io.BytesIO(picture.value)) if picture.value else None
        text.value = html.escape(png.info.get("Description", "")) if png else ""

    picture.observe(tell, "value")
    tell()
    return text.add_class("rlhf-alt")
