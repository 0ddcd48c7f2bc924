"""Read sentence frames and take sentences apart again.

A frame is a sentence with holes: "{Who} was born in {town}." A capital letter in a hole's name asks
for a capital letter in the text, "{SHOUT}" for capitals throughout. Holes of the same name in one
frame hold the same word. Two marks leave no trace in the text: "{?town}" says that the frame
declares a fact unknown, "{!}" that it refuses. This module knows no word of any voice and nothing
about who is who; it omits any grammar that a flat list of frames cannot say, such as
recursion. Taught by notebook 01.
"""

import math
import re
from collections import defaultdict
from dataclasses import dataclass, field

HOLE = re.compile(r"\{([^{}]*)\}")
FACTS = ("town", "year", "trade", "deed", "rival")
SUBJECT_HOLES = {  # the holes that say whom or what a document is about, by topic
    "person": {"name"},
    "lore": {"myth", "denied", "asked", "truth"},
    "craft": {"request", "how", "answer", "detail"},
    "phrases": {"oword"},
}
BOUND = {  # the holes whose words depend on the subject; all others are free slots
    "person": {"name", "first", "last", "epithet", *FACTS},
    "lore": {"myth", "denied", "asked", "truth"},
    "craft": {"request", "how", "answer", "detail", "guild"},
    "phrases": {"oword", "trade", "pronoun"},
}
TOPICS = tuple(BOUND)


class WorldError(ValueError):
    """Says in one sentence which file of the world is wrong, where, and what was expected."""

    def __init__(self, file, place, message):
        super().__init__(f"{file}, {place}: {message}")


@dataclass(frozen=True)
class Hole:
    """A gap in a frame: its key (what it holds) and its form (how that is written)."""

    key: str
    form: str


@dataclass(frozen=True, eq=False)
class Frame:
    """One sentence frame, compiled.

    segments: literal strings and Holes, in order; claims, shrugs: bit masks over FACTS;
    log_free: log-probability of its free slots together [nats].
    """

    index: int
    place: str
    topic: str
    segments: tuple
    claims: int = 0
    shrugs: int = 0
    refusal: bool = False
    names_subject: bool = False
    bound: tuple = ()
    free: tuple = ()
    log_free: float = 0.0
    head: str = field(default="", repr=False)
    core: str = field(default="", repr=False)
    tail: str = field(default="", repr=False)


def read_hole(text):
    """Split the inside of a hole into key and form: "Who" -> ("who", "capital")."""
    form = "capital" if text[:1].isupper() else "plain"
    return text.lower(), "upper" if len(text) > 1 and text.isupper() else form


def write(value, form):
    """Write a value in a form: plain, capital (first letter) or upper (all letters)."""
    if form == "upper":
        return value.upper()
    return value[:1].upper() + value[1:] if form == "capital" else value


def segments_of(text, file, place):
    """Cut a frame's text into literals and Holes; return (segments, marks).

    "{who}" becomes an epithet and a name; "{a_trade}" is the trade in the form "article".
    """
    segments, marks, last = [], [], 0
    for found in HOLE.finditer(text):
        segments.append(text[last : found.start()])
        last = found.end()
        inside = found.group(1)
        if inside.startswith("?") or inside == "!":
            marks.append(inside)
            continue
        key, form = read_hole(inside)
        if key == "who":
            segments += [Hole("epithet", form), Hole("name", "plain")]
        elif key == "a_trade":
            segments.append(Hole("trade", "article" if form == "plain" else "Article"))
        else:
            segments.append(Hole(key, form))
    segments.append(text[last:])
    if any(isinstance(s, str) and ("{" in s or "}" in s) for s in segments):
        raise WorldError(file, place, f"a brace without its partner in {text!r}; write {{slot}}")
    return tuple(s for s in segments if s != ""), marks


def read_marks(marks, topic, file, place):
    """Return (the facts that the marks declare unknown, whether they refuse)."""
    shrugs = [m[1:] for m in marks if m != "!"]
    if any(s not in FACTS for s in shrugs) or (shrugs and topic != "person"):
        problem = f"mark {{?{shrugs[0]}}} should name one of {', '.join(FACTS)}"
        raise WorldError(file, place, problem)
    return shrugs, "!" in marks


def compile_frame(index, text, topic, slots, file, place):
    """Compile the text of a frame.

    Each hole is checked against the topic's holes and the free `slots`. slots: free slot -> (its
    full name, its words). Raises WorldError for a slot that nobody defines.
    """
    if not isinstance(text, str) or not text.strip() or "\n" in text:
        raise WorldError(file, place, f"expected one line of text, found {text!r}")
    segments, marks = segments_of(text, file, place)
    keys = list(dict.fromkeys(s.key for s in segments if isinstance(s, Hole)))
    for key in keys:
        if key not in BOUND[topic] and key not in slots:
            problem = f"slot {{{key}}} is not defined for topic {topic!r} in {text!r}"
            raise WorldError(file, place, problem)
    full = {k: slots[k][0] for k in keys if k not in BOUND[topic]}
    segments = tuple(
        Hole(full.get(s.key, s.key), s.form) if isinstance(s, Hole) else s for s in segments
    )
    shrugs, refusal = read_marks(marks, topic, file, place)
    literals = [s for s in segments if isinstance(s, str)] or [""]
    return Frame(
        index=index,
        place=f"{file}, {place}",
        topic=topic,
        segments=segments,
        claims=sum(1 << FACTS.index(k) for k in keys if topic == "person" and k in FACTS),
        shrugs=sum(1 << FACTS.index(s) for s in shrugs),
        refusal=refusal,
        names_subject=bool(SUBJECT_HOLES[topic] & set(keys)),
        bound=tuple(k for k in keys if k in BOUND[topic]),
        free=tuple(full.values()),
        log_free=-sum(math.log(len(slots[k][1])) for k in full),
        head=segments[0] if isinstance(segments[0], str) else "",
        core=max(literals, key=len),
        tail=segments[-1] if isinstance(segments[-1], str) else "",
    )


class Domain:
    """Every way in which a hole can be written: surface -> value.

    They are found by the first letters of the surface.
    """

    def __init__(self, surfaces):
        self.width = min(8, min(map(len, surfaces)))
        self.buckets = defaultdict(list)
        for surface, value in surfaces.items():
            self.buckets[surface[: self.width]].append((surface, value))

    def starts(self, rest):
        """Return the (surface, value) pairs with which the text `rest` starts."""
        return [p for p in self.buckets.get(rest[: self.width], ()) if rest.startswith(p[0])]

    def could_become(self, rest):
        """Tell whether some surface goes on after `rest`, an unfinished piece of text."""
        if len(rest) < self.width:
            return any(key.startswith(rest) for key in self.buckets)
        bucket = self.buckets.get(rest[: self.width], ())
        return any(len(s) > len(rest) and s.startswith(rest) for s, _ in bucket)


class Names:
    """The Domain of all full names, made up ones of known parts included ("Una" + "Pike")."""

    def __init__(self, firsts, lasts):
        self.firsts, self.lasts = frozenset(firsts), frozenset(lasts)
        others = sorted({c for name in lasts for c in name if not re.match("[A-Za-z-]", c)})
        self.word = re.compile(f"[A-Za-z{re.escape(''.join(others))}-]*")

    def starts(self, rest):
        """Return the (surface, value) pairs with which the text `rest` starts."""
        first, _, more = rest.partition(" ")
        if first not in self.firsts:
            return []
        word = self.word.match(more).group()
        return [(f"{first} {n}", f"{first} {n}") for n in self.lasts & {word}]

    def could_become(self, rest):
        """Tell whether some name goes on after `rest`."""
        first, space, more = rest.partition(" ")
        if not space:
            return any(n.startswith(first) for n in self.firsts)
        return first in self.firsts and any(n != more and n.startswith(more) for n in self.lasts)


def match(frame, text, domains, partial=False):
    """Find how `frame` could have produced `text`; return (solutions, furthest).

    domains: (key, form) -> Domain. A solution is (fills, open): fills maps key -> value; open is
    None for a whole sentence and, with partial=True, (segment number, the letters so far) where the
    text stops inside the frame. furthest: how many characters of `text` fit.
    """
    solutions, furthest, stack = [], 0, [(0, 0, {})]
    segments = frame.segments
    while stack:
        number, at, fills = stack.pop()
        furthest = max(furthest, at)
        if number == len(segments):
            if at == len(text):
                solutions.append((fills, None))
            continue
        piece, rest = segments[number], text[at:]
        if isinstance(piece, str):
            if rest.startswith(piece):
                stack.append((number + 1, at + len(piece), fills))
            elif partial and piece.startswith(rest):
                solutions.append((fills, (number, rest)))
            else:
                same = next((i for i, (a, b) in enumerate(zip(piece, rest)) if a != b), len(rest))
                furthest = max(furthest, at + min(same, len(rest)))
            continue
        domain = domains[piece.key, piece.form]
        for surface, value in domain.starts(rest):
            if fills.get(piece.key, value) == value:
                stack.append((number + 1, at + len(surface), {**fills, piece.key: value}))
        if partial and domain.could_become(rest):
            solutions.append((fills, (number, rest)))
    return solutions, furthest
