"""List what one stroke of a pencil can do to a text, and find what a correction has changed.

A corrector deletes a line, puts a fact right, changes an epithet or says a line in another voice.
Omits free rewriting, which has no finite list of options. Taught by notebook 02.
"""

from rlhf_lite.checks import check_texts

import numpy as np


def edits(world, prompt, response, rng):
    """List what a person with a pencil can do to a response in one stroke: [(edited, what)].

    Delete a line; put a false fact right; change an epithet; say one line in the words of another
    voice, its facts kept. The prompt stays as it is.
    """
    check_texts((prompt, response), "[prompt, response]")
    parse = world.parse(prompt + response)
    lines, note, found = parse.lines, [parse.note] if parse.note else [], {}
    for at, line in enumerate(lines):
        others = [x.text for x in lines]
        for text, what in [*_strokes(world, line, lines, rng), (None, "delete a line")]:
            rows = others[:at] + ([text] if text else []) + others[at + 1 :]
            edited = "\n".join(rows + note)
            if edited.startswith(prompt) and edited[len(prompt) :] not in ("", response):
                found.setdefault(edited[len(prompt) :], what)
    return list(found.items())


def _strokes(world, line, lines, rng):
    """Yield (new text, what) for one line."""
    if line.frame is None:
        return
    for claim in line.claims:
        person = world.by_name.get(claim.about)
        if claim.verdict == "false" and person and person.facts.get(claim.kind):
            fills = line.fills | {claim.kind: person.facts[claim.kind]}
            yield world.render(line.frame, fills), f"put right: {claim.kind}"
    for epithet in ("", "the hero", "the so-called", "the famous"):
        if line.fills.get("epithet", epithet) != epithet:
            text = world.render(line.frame, line.fills | {"epithet": epithet})
            yield text, f"epithet: {epithet or 'none'}"
    used = {x.frame.index for x in lines if x.frame}
    for voice in world.voices:
        text = _say_in(world, voice, line, used, rng)
        if text:
            yield text, f"voice: {voice}"


def _say_in(world, voice, line, used, rng):
    """Return what `line` says in a frame of another voice, None where there is no such frame."""
    weights = world.weights[voice].get(line.frame.topic, {})
    says = line.frame.claims, line.frame.shrugs
    others = [world.frames[i] for i in weights if i not in used]
    fit = [f.index for f in others if (f.claims, f.shrugs) == says and "name" in f.bound]
    if not fit or "name" not in line.fills:
        return None
    probs = np.array([weights[i] for i in fit])
    frame = world.frames[rng.choice(fit, p=probs / probs.sum())]
    name = line.fills["name"]
    first, last = name.split(" ", 1)
    fills = {"epithet": "", "first": first, "last": last} | line.fills
    fills |= {k: str(rng.choice(world.slots[k])) for k in frame.free}
    if any(k not in fills for k in frame.bound):
        return None
    return world.render(frame, fills)


def _shared_start(a, b):
    """Return how many characters two texts share from their beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def changed_span(before, after):
    """Return (start, end of the change in `before`, its end in `after`) [characters].

    What stands in front is common, and so is what stands behind.
    """
    start = _shared_start(before, after)
    tail = _shared_start(before[start:][::-1], after[start:][::-1])
    return start, len(before) - tail, len(after) - tail
