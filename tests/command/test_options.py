"""What can be typed after the command: bad input is one line and exit 2."""

import pytest

from fullbatch.command import options
from fullbatch.command.options import date_formats
from fullbatch.errors import InputError
from fullbatch.training.optimizers import OPTIMIZERS


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["trai"], "No such command"),
        (["train", "--frobnicate"], "No such option"),
        (["evaluate"], "Missing argument 'MODEL'"),
        (["trian"], "Did you mean 'train'? Try 'fullbatch --help'."),
        (["evaluate", "x.model", "nothing.csv"], "no such model file: x.model"),
        (["train", "--solver", "newton"], ", ".join((*OPTIMIZERS, "lbfgs"))),
        (["train", "--activation", "step"], "tanh, sigmoid, relu"),
        (["train", "--device", "tpu"], "auto, cpu, cuda and cuda:N"),
        (["train", "--dtype", "float16"], "float32, float64"),
        (["train", "--task", "cluster"], "classify, regress"),
        (["train", "--hidden", "0"], "for '--hidden': '0' is not a list of layer sizes"),
        (["train", "--hidden", "64,-2"], "layer sizes"),
        (["train", "--hidden", "big"], "layer sizes"),
        (["train", "--epochs", "0"], "--epochs"),
        (["train", "--epochs", "many"], "--epochs"),
        (["train", "--epochs", "many"], "'many'"),
        (["train", "--epochs=many"], "'many'"),
        (["train", "--epochs", "many"], ". Try 'fullbatch train --help'."),
        (["train", "--epochs", "3", "--seed", "1", "--epochs=4"], "--epochs is given 2 times; give it once."),
        (["predict", "m", "d.csv", "--out", "a.csv", "--out", "b.csv"], "--out is given 2 times; give it once."),
        (["train", "--wait", "nan"], "0 or a larger number"),
        (["train", "--checkpoint-every", "nan"], "0 or a larger number"),
        (["train", "--batch-size", "0"], "no batch size"),
        (["train", "--batch-size", "-3"], "no batch size"),
        (["train", "--learning-rate", "0"], "larger than 0"),
        (["train", "--learning-rate", "-1"], "larger than 0"),
        (["train", "--learning-rate", "nan"], "larger than 0"),
        (["train", "--learning-rate", "inf"], "larger than 0"),
        (["train", "--l2", "-0.1"], "0 or a larger number"),
        (["train", "--validation", "1"], "less than 1"),
        (["train", "--validation", "-0.1"], "at least 0"),
        (["train", "--max-levels", "0"], "--max-levels"),
        (["train", "--threads", "0"], "--threads"),
        (["train", "--seed", "-1"], "--seed"),
        (["train", "--target", "digt"], "no target column 'digt'. Did you mean 'digit'?"),
        (["train", "--target", "DIGIT"], "Did you mean 'digit'?"),
        (["train", "--plot", "costs.gif"], ".png, .pdf, .svg"),
    ],
)
def test_usage(fails, args, says):
    assert says in fails(*args)


@pytest.mark.parametrize(
    ("text", "value"), [("8GB", 8e9), ("8 gib", 8 * 2**30), ("0.5", 0.5), ("8e9", 8e9), ("500 MB", 5e8), ("7b", 7)]
)
def test_an_amount_of_memory(text, value):
    assert options.memory_size(text) == value


def test_date_formats():
    assert date_formats(["a=%d/%m/%Y", "%d.%m.%Y", "a=b=%Y", "on %d=%m=%Y"]) == (
        {"a": "%d/%m/%Y", "a=b": "%Y"}, ("%d.%m.%Y", "on %d=%m=%Y"),
    )  # fmt: skip
    assert date_formats(["a=%Y", "a=%Y"]) == ({"a": "%Y"}, ())
    with pytest.raises(InputError, match="two formats"):
        date_formats(["a=%Y", "a=%y"])


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize(
    "args",
    [
        ("columns",), ("train", "--target", "y"), ("info",), ("evaluate",), ("evaluate", "x.model"), ("predict",),
        ("predict", "x.model"), ("convert", "--target", "y", "--out", "s"),
        ("convert", "d.csv", "--target", "y", "--out"),
        ("train", "d.csv", "--target", "y", "--validation"), ("train", "d.csv", "--target", "y", "--model"),
        ("train", "--resume"), ("explain", "x.model"), ("export", "x.model", "--out"),
    ],
)  # fmt: skip
def test_an_empty_name_is_not_this_folder(fails, tmp_path, monkeypatch, args, empty):
    monkeypatch.chdir(tmp_path)
    assert "the name is empty; give a file or a folder" in fails(*args, empty)
    assert list(tmp_path.iterdir()) == []
