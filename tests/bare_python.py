"""Answers the calls of ``processes.BarePython``, each in a fork."""

import gc
import json
import os
import runpy
import sys
import traceback

import peft  # noqa: F401
import torch  # noqa: F401
import transformers.models.auto.modeling_auto  # noqa: F401


def call(words, folder, environment, files):
    """Do as Python does that starts with these words; the exit code."""
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    path = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = ["", *filter(None, path)]
    how, what, *words = words
    sys.argv = [how, *words]
    try:
        if how == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(what, {"__name__": "__main__"})
    except SystemExit as stop:
        return stop.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main():
    """Fork for each line, and answer with the exit code."""
    own = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path = [place for place in sys.path[1:] if place not in own]
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            code = call(*json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # tidying up takes longer than the calls
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
