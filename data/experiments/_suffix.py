"""What the searches of suffixes share: the requests, one search, its curve.

The target is the beginning of the answer that each request's own craft has.
"""

from rlhf_lite.attacks import SearchConfig, SuffixSearch
from rlhf_lite.experiments import load

jail = load("_jail")
LENGTH, WIDTH, TOP, WORDS = 6, 64, 32, 2  # WORDS: of the answer, which the suffix must bring about
GRID = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)  # shares of the evaluations where losses are kept


def asked(lab):
    """List one request for each secret of training; the suffix is made for every second."""
    return jail.all_requests(lab, lab.secrets(), ["tell me"], ["direct"])


def searched(lab, policy, questions, method, evaluations, seed):
    """Return (search, [(evaluations, loss)]) of a search for one suffix for all questions."""
    crafts = {c["how"]: c for c in lab.secrets()}
    targets = [lab.begun(q, WORDS, crafts[q.about]).prompt[len(q.prompt) :] for q in questions]
    config = SearchConfig(method, LENGTH, WIDTH, TOP, evaluations, seed)
    prompts = [q.prompt for q in questions]
    search = SuffixSearch(policy, lab.tokenizer, prompts, targets, config)
    curve = [(search.spent, search.loss)] + [(s.spent, s.loss) for s in search]
    return search, curve


def on_grid(curve, evaluations):
    """Return the best loss so far at each point of GRID."""
    return [[y for x, y in curve if x <= g * evaluations][-1] for g in GRID]
