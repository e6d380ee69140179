"""The benchmark harness: ``python -m bench scaling | peers | training | profile | plot | readme``.

    __main__.py    starts the command
    command.py     the command                                                   (click)
    readme.py      the README's tables, from results/*.json
    plots.py       the pictures, from results/*.json                             (matplotlib)
    render.py      figures, tables and words of a result, for all that show it   (rich)
    profile.py     where the time of a step and of an epoch goes
    scaling.py     one cost and gradient as m grows, on each backend
    peers.py       the same step by what people would use instead                (torch, jax where installed)
    accuracy.py    how far a gradient over 10^7 rows is off, by each
    serving.py     many rows, one row and graphs, beside scikit-learn and onnxruntime
    minibatch.py   an epoch of mini-batch Adam by the same
    training.py    seconds until a held-out loss is reached, on real data
    datasets.py    the real data
    runs.py        what the runs share: the time that is left, and limits that are measured again
    contest.py     who takes part in a comparison, and their times in turns
    gpu.py         all that a card can tell, in parts; gpu_parts.py: each in a process of its own
    backends.py    native and NumPy on the CPU, CuPy on a GPU: where arrays live, how a call is timed, its memory
    own.py         fullbatch's own ways of a step, and what really ran
    memory.py      peak memory beyond the data, in a process of its own
    roofline.py    the machine's own limits, and what a step needs of them
    timing.py      the rules of a timing: pauses, untimed calls, turns, rounds that are dropped
    results.py     the JSON files; what follows from their points is made anew by the module of their kind
    children.py    a part of a run in a process of its own
    losses.py      the cost in PyTorch and in JAX
    forms.py       what has to be in a JSON file                                 (msgspec)
    problem.py     shapes, data made for them, and how far a gradient is off
    machine.py     what it ran on
    forced.py      what forces other kernels on a BLAS: taken away
    test_step.py   pytest-benchmark cases, in one table: pytest bench/test_*.py --benchmark-autosave, then
                   --benchmark-compare; conftest.py is theirs
    tests/         the tests of all this

A file imports only from files listed below it. A figure is worth its conditions: each JSON file says what it ran on, at
which revision, by which command, and keeps every sample beside the median.
"""
