"""The console script: `moe-study run --trials 50` is `python -m study.run --trials 50`, and so on for each command."""

#: per command, its module and a sentence; `parser()` of the module's options gives its options
COMMANDS = {
    "run": ("study.run", "search for the config in which the mixture beats its baseline by most"),
    "analyze": ("study.analyze", "tables, effects and figures of studies"),
    "reproduce": ("study.reproduce", "train a trial again and compare every number"),
    "submit": ("study.submit", "run a study on a cluster"),
    "moe": ("moe", "train one mixture, or predict with one"),
    "store": ("moe.store", "list, check or shrink the stage store"),
}
