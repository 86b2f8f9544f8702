"""What a command does around its work."""

from study.guard import guarded
from study.options import parse


def test_a_study_that_is_interrupted_before_its_first_trial_names_the_command_to_continue(capsys):
    def begin(options, command, stop):
        stop.resume = "python -m study.run --resume"
        raise KeyboardInterrupt

    def nothing(options, command, stop):
        raise KeyboardInterrupt

    printed = {}
    for work in (begin, nothing):
        assert guarded("study", parse, work, []) == 75
        printed[work] = capsys.readouterr().err
    assert printed == {
        begin: "study: interrupted; nothing was run; continue with: python -m study.run --resume\n",
        nothing: "study: interrupted; nothing was run\n",
    }
