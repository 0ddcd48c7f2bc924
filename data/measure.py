"""Measure one experiment, or list them all.

    python data/measure.py                              # what there is, and how long it takes
    python data/measure.py methods                      # all arms: writes data/runs/methods.json
    python data/measure.py methods --only "RLOO, k = 4" # one arm again, printed and not kept
    python data/measure.py methods --seeds 1            # fewer seeds, into my-methods.json
    python data/measure.py methods --statistics         # its statistics again, from the record

Killed? The same command goes on: each finished arm lies in data/runs/my-NAME until all are done. As
many arms run side by side as there are cores, one thread each; how long all will take is said
before they start.
"""

import argparse
import json
import sys

from rlhf_lite.experiments import Experiment, ExperimentError, overview
from rlhf_lite.records import RecordError, plain_output


def main():
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", nargs="?", help="a file in data/experiments, without .py")
    parser.add_argument("--only", metavar="ARM", help="measure one arm and print it")
    parser.add_argument("--seeds", type=int, help="the first N seeds of each arm alone")
    parser.add_argument("--statistics", action="store_true", help="from the recorded arms")
    args = parser.parse_args()
    try:
        if not args.name:
            print("\n".join(overview()))
        elif args.statistics:
            print("wrote", Experiment(args.name).judge_again())
        elif args.only:
            print(json.dumps(Experiment(args.name).measure_arm(args.only, args.seeds), indent=1))
        else:
            print(Experiment(args.name).forecast(args.seeds), flush=True)
            print("wrote", Experiment(args.name).measure(args.seeds))
    except (ExperimentError, RecordError) as error:
        sys.exit(f"measure: {error}")


if __name__ == "__main__":
    main()
