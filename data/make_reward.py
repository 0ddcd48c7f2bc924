"""Train the reward model that later notebooks start from: `python data/make_reward.py`.

20,000 preferences of the scholar, three minutes on one thread. Writes data/models/reward, its score
with mean 0 and sd 1 on base samples; made.json tells how it was made and how good it is.
"""

import json

from rlhf_lite import experiments, models, records, rewards
from rlhf_lite.feedback import fingerprint
from rlhf_lite.runtime import DATA

SEED, EACH = 0, 25  # responses to each prompt that the score is normalised on
FOLDER = DATA / "models" / "reward"


def main():
    records.plain_output()
    scholar, lab = experiments.load("_scholar"), experiments.Lab(None)
    reward, seconds = scholar.train(lab, SEED, scholar.SHIPPED)
    numbers = scholar.ruler(lab, reward, lab.held_out)
    texts = [p + r for p, said in lab.responses.items() for r in said[:EACH]]
    mean, sd = rewards.normalise(reward.model, lab.tokenizer, texts)
    models.save(reward.model, lab.tokenizer, FOLDER)
    made = {
        "command": "python data/make_reward.py", "seed": SEED, "labels": scholar.SHIPPED,
        "annotator": "scholar", "rationality": lab.people["scholar"].rationality,
        "seconds": round(seconds, 1), "mean": mean, "sd": sd, "normalised on": len(texts),
        "world": fingerprint(), "held out": numbers,
    }  # fmt: skip
    text = json.dumps(made, indent=1) + "\n"
    (FOLDER / "made.json").write_text(text, encoding="utf-8", newline="\n")
    print("wrote", FOLDER)


if __name__ == "__main__":
    main()
