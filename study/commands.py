"""The console script: `moe-study run --trials 50` is `python -m study.run --trials 50`, and so on.

`moe-study --print-completion bash` prints what a shell needs to complete commands and options; so for zsh and tcsh.
"""

import importlib
import runpy
import sys

import shtab

from moe.cli import Parser

#: per command its module, the module with its `parser`, and a sentence
COMMANDS = {
    "run": ("study.run", "study.options", "search for the config in which the mixture beats its baseline by most"),
    "analyze": ("study.analyze", "study.analyze.__main__", "report on studies: configs, effects, figures"),
    "ask": ("study.ask", "study.ask", "what the model expects of a config"),
    "confirm": (
        "study.confirm",
        "study.confirm.options",
        "fresh seeds, controls and test images: a verdict on a study",
    ),
    "reproduce": ("study.reproduce", "study.reproduce.__main__", "train a trial again and compare every number"),
    "submit": ("study.submit", "study.cluster.options", "run a study on a cluster"),
    "moe": ("moe", "moe.__main__", "train one mixture, or classify pictures with a saved one"),
    "store": ("moe.store", "moe.store.__main__", "list, check or shrink the stage store"),
}


def main() -> None:
    """Run the command that the first argument names."""
    if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        module = COMMANDS[sys.argv[1]][0]
        sys.argv = [f"moe-study {sys.argv[1]}", *sys.argv[2:]]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        parser(any(word.startswith("--p") for word in sys.argv)).parse_args()


def parser(with_options: bool = False) -> Parser:
    """All commands, by default without their options: their modules are not imported then."""
    found = Parser(prog="moe-study", description="A hyperparameter study of a mixture of experts.")
    shtab.add_argument_to(found, "--print-completion", help="print the completion of a shell and exit")
    commands = found.add_subparsers(metavar="COMMAND", required=True)
    for name, (_, options, sentence) in COMMANDS.items():
        parents = [importlib.import_module(options).parser()] if with_options else []
        commands.add_parser(name, help=sentence, parents=parents, conflict_handler="resolve", add_help=False)
    return found


if __name__ == "__main__":
    main()
