"""Options of ``fullbatch train``: what rows count, which are held out, and what these choose and score."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from pyarrow import csv

import fullbatch as fb
from command.conftest import QUICK, people, with_others, write
from fullbatch.errors import InputError

FEW = ("--target", "pays", "--hidden", "8", "--epochs", "3", "--learning-rate", "0.02")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The people, with a day, a group and a weight, as a file of their own."""
    path = tmp_path_factory.mktemp("held_out") / "people.csv"
    rng = np.random.default_rng(3)
    days = np.datetime64("2024-01-01") + np.arange(400) // 4
    more = {"day": days, "user": np.arange(400) % 37, "w": rng.choice([0.0, 1.0, 2.5], 400)}
    data = people()
    for name, values in more.items():
        data = data.append_column(name, [values])
    csv.write_csv(data.drop_columns("spends"), path)
    return path


@pytest.fixture
def trained(run, table, tmp_path):
    """Train on the people with more options: what is printed, what is said, and the model."""

    def trained(*options):
        status, out, err = run("train", table, *with_others(FEW, ("--model", tmp_path / "m.model", *options)))
        assert status == 0, err
        return " ".join(out.split()), err, fb.load(tmp_path / "m.model")

    return trained


def test_the_last_days_are_held_out(trained):
    out, _, model = trained("--split-by", "day")
    assert "held out 40 rows, 10 %: day >= 2024-03-31" in out
    assert "pays: scores on 40 held-out rows, which chose the epoch" in out
    assert "day" in model.feature_names_in_
    for options in (("--drop", "day"), ("--columns", "town,age,income")):
        out, _, model = trained("--split-by", "day", *options)
        assert "held out 40 rows, 10 %: day >= 2024-03-31" in out
        assert "day" not in model.feature_names_in_


def test_groups_are_held_out_and_no_feature(trained, run, tmp_path):
    out, _, model = trained("--group", "user")
    assert "%: whole groups of user" in out
    assert "user" not in model.feature_names_in_
    shown = " ".join(run("info", tmp_path / "m.model")[1].split())
    assert "%: whole groups of user" in shown
    assert "user left out" in shown


def test_weights_count_in_the_training_and_in_the_scores(trained, run, table, tmp_path):
    _, err, model = trained("--weight", "w", "--class-weight", "yes=3")
    assert "rows have a weight of 0; they are left out" in err
    assert "w" not in model.feature_names_in_
    assert model.class_weight == {"yes": 3.0}
    _, plain, err = run("evaluate", tmp_path / "m.model", table, "--json")
    _, weighted, said = run("evaluate", tmp_path / "m.model", table, "--json", "--weight", "w")
    zeros = int(re.search(r"(\d+) of 400 rows have a weight of 0", said)[1])
    assert json.loads(plain)["m"] == 400 == json.loads(weighted)["m"] + zeros
    assert json.loads(weighted) == {**model.evaluate(str(table), sample_weight="w")}
    assert json.loads(weighted)["log_loss"] != json.loads(plain)["log_loss"]
    assert "does not know" not in err + said
    assert trained("--class-weight", "balanced")[2].class_weight == "balanced"


def test_a_file_of_rows_that_are_held_out(trained, table, tmp_path):
    lines = table.read_text().splitlines()
    lines[1] = re.sub(r'"(yes|no)"', '"perhaps"', lines[1])
    lines[2] = re.sub(r'"(yes|no)"', "", lines[2])
    more = [f"{line},{i or 'more'}" for i, line in enumerate(lines[:81])]
    own = write(tmp_path / "own.csv", "\n".join(more))
    out, err, model = trained("--validation", own)
    assert f"{own}: the model does not know column 'more', which is ignored." in err
    assert "of the held-out rows 1 of 80 rows have no target; they are left out." in err
    assert "1 of 79 held-out rows have a class that training had not, 'perhaps'; they are not scored." in err
    assert "scores on 78 held-out rows, which chose the epoch" in out
    assert "held out 79 rows, 16.5 %: those of own.csv" in out
    assert model.record_["rows"] == 400


def test_patience_ends_the_training_and_says_where(trained, run, table):
    steps = ("--epochs", "200", "--learning-rate", "0.2", "--batch-size", "10")
    options = ("--patience", "2", "--validation", "0.3", "--no-retrain", *steps)
    out, _, model = trained(*options)
    last, best, _ = model.record_["ended"].values()
    assert last == best + 2 < 200
    assert f"ended in epoch {last} of 200 by --patience; the parameters are those of epoch {best}, the best" in out
    found = json.loads(run("train", table, "--target", "pays", "--hidden", "8", *options, "--json", "-q")[1])
    assert (found["epochs"], found["planned"]) == (last, 200)


def test_a_second_training_is_said(trained, run, table):
    options = ("--epochs", "30", "--learning-rate", "0.2", "--batch-size", "10", "--validation", "0.3")
    out, err, model = trained(*options)
    after, second = model.retraining_
    first, then = (min(part) for part in (model.validation_costs_[:after], model.validation_costs_[after:]))
    best = model.validation_costs_.index(first) + 1
    assert (after, second) == (30, max(best, 3))
    assert f"epoch {best} of 30 was the best on held-out rows: training once more, for {second} epochs\n" in err
    assert f"epoch {30 + second}/{30 + second}" in err
    better = f"held-out cost {first:.4f} -> {then:.4f}" if then < first else "which made it no better"
    assert f"once more from the start for {second} epochs, {better}" in out
    once = trained("--no-retrain", *options)
    assert "once more" not in once[0] + once[1]
    assert once[2].validation_costs_ == model.validation_costs_[:30]
    found = json.loads(run("train", table, "--target", "pays", "--hidden", "8", *options, "--json", "-q")[1])
    assert (found["epochs"], found["planned"]) == (30 + second, 30)
    assert found["ended"]["retraining"] == {"after": 30, "epochs": second, "costs": [first, then]}


def test_a_metric_and_a_threshold(trained, run, table, tmp_path):
    out, _, model = trained("--metric", "f1", "--threshold", "auto")
    assert "held-out rows, which chose the epoch and the threshold" in out
    value, guess = (model.record_[name]["metric"]["value"] for name in ("held_out", "guess"))
    assert f" f1 {value:.4f} {guess:.4f} more is better" in out
    assert f"threshold {model.threshold_:.6g}: from this probability on, 'yes' is predicted" in out
    assert "rows that are | predicted as no yes" in out
    scores = json.loads(run("evaluate", tmp_path / "m.model", table, "--json")[1])
    assert scores["metric"]["name"] == "f1"
    by_name = json.loads(run("evaluate", tmp_path / "m.model", table, "--json", "--metric", "precision")[1])
    assert by_name["metric"]["name"] == "precision"
    assert scores["confusion_matrix"] == model.evaluate(str(table))["confusion_matrix"]
    run("predict", tmp_path / "m.model", table, "--out", tmp_path / "p.csv")
    found = csv.read_csv(tmp_path / "p.csv").to_pydict()
    assert found["prediction"] == ["yes" if p >= model.threshold_ else "no" for p in found["probability_yes"]]
    shown = " ".join(run("info", tmp_path / "m.model")[1].split())
    assert f"threshold {model.threshold_:.10g}" in shown
    assert "which chose the epoch and the threshold" in shown
    assert trained("--threshold", "0.25")[2].threshold_ == 0.25


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_rows_that_chose_nothing_are_said_to_be_unseen(trained):
    assert "scores on 41 rows that the model has not seen" in trained("--solver", "lbfgs")[0]
    assert "scores on 41 held-out rows, which chose the threshold" in trained(
        "--solver", "lbfgs", "--threshold", "auto"
    )[0]  # fmt: skip


def test_a_rare_class_is_not_hidden_by_accuracy(run, tmp_path):
    rows = "".join(f"{i % 7},{'yes' if i % 40 == 0 else 'no'}\n" for i in range(1200))
    data = write(tmp_path / "rare.csv", f"x,y\n{rows}")
    arguments = ("train", data, "--target", "y", "--hidden", "4", "--epochs", "60", "--learning-rate", "0.02")
    _, out, err = run(*arguments, "--model", tmp_path / "m.model")
    assert re.search(r"'yes' is in \S+ % of these rows, [123], of which 0 are found: accuracy says little here", out)
    assert "average precision more." in " ".join(out.split())
    assert "all 120 predictions are 'no'; --threshold auto chooses one that tells the classes apart." in err
    _, out, err = run("evaluate", tmp_path / "m.model", data)
    assert "'yes' is in 2.5 % of these rows, 30, of which 0 are found" in out
    assert "all 1,200 predictions are 'no'; --threshold auto" in err


# --- Bad input: one line, exit 2, nothing written


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--drop", "pays"), "'pays' is the target, and --drop leaves it out"),
        (("--drop", "w", "--weight", "w"), "'w' is in --weight and in --drop"),
        (("--drop", "user", "--group", "user"), "'user' is in --group and in --drop"),
        (("--weight", "town"), "'town' must hold numbers, but row 1 has '"),
        (("--weight", "pays"), "'pays' is given as the target and the weight"),
        (("--split-by", "pays"), "'pays' is given as the target and split_by"),
        (("--group", "pays"), "'pays' is given as the target and group"),
        (("--weight", "wait"), "no weight column 'wait'"),
        (("--group", "usr"), "no column 'usr'. Did you mean 'user'"),
        (("--split-by", "day", "--group", "user"), "not by both"),
        (("--split-by", "town"), "'town' holds texts, which have no order"),
        (("--split-by", "day", "--validation", "0"), "'day' has nothing to decide"),
        (("--validation", "1.5"), "1.5 is out of range"),
        (("--validation", "-1"), "-1 is out of range"),
        (("--validation", "nowhere.csv"), "neither a share of the rows, such as 0.1, nor a file"),
        (("--class-weight", "yes"), "'yes' gives no weights"),
        (("--class-weight", "yes=1,no=2,yes=3"), "gives class 'yes' two weights; expected one"),
        (("--class-weight", "yes=much"), "'yes=much' gives no weights"),
        (("--class-weight", "maybe=2"), "no class 'maybe'; its classes are 'no', 'yes'"),
        (("--class-weight", "yes=-1"), "at least 0; that of 'yes' is -1.0"),
        (("--patience", "0"), "--patience"),
        (("--patience", "2", "--validation", "0"), "patience needs held-out rows"),
        (("--patience", "2", "--solver", "lbfgs"), "lbfgs stops by itself"),
        (("--metric", "f11"), "'f11' is no metric of scikit-learn's scoring; near are f1"),
        (("--metric", "r2_"), "no metric"),
        (("--metric", "neg_mean_gamma_deviance"), "'neg_mean_gamma_deviance' does not fit here"),
        (("--metric", "r2"), "'r2' does not fit here: it is of numbers, and classes are predicted"),
        (("--metric", "neg_median_absolute_error"), "it is of numbers"),
        (("--target", "income", "--metric", "accuracy"), "'accuracy' does not fit here"),
        (("--target", "income", "--metric", "rand_score"), "'rand_score' does not fit here"),
        (("--threshold", "1"), "'1' is no threshold"),
        (("--threshold", "half"), "'half' is no threshold"),
        (("--threshold", "auto", "--validation", "0"), "threshold 'auto' needs held-out rows"),
        (("--target", "town", "--threshold", "0.5"), "a threshold is of two classes; 'town' has 3"),
        (("--target", "income", "--threshold", "0.5"), "--threshold is of classes, and 'income' makes a regression"),
        (("--target", "income", "--class-weight", "balanced"), "--class-weight is of classes"),
    ],
)
def test_options_that_cannot_be(fails, table, tmp_path, options, says):
    said = fails("train", table, *with_others(FEW, ("--model", tmp_path / "m.model", "-q", *options)))
    assert re.search(re.escape(says), said), said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        ("1,-2,no", ("--weight", "w"), "'w' has a negative weight in row 5, -2"),
        ("1,,no", ("--weight", "w"), "'w' has no weight in row 5"),
        ("1,much,no", ("--weight", "w"), "'w' must hold numbers, but row 5 has 'much'"),
        ("1,inf,no", ("--weight", "w"), "'w' is infinite in row 5"),
        ("1,,no", ("--split-by", "w"), "'w' has no value in row 5 and decides the order of the rows"),
        ("1,,no", ("--group", "w"), "'w' has no value in row 5 and decides groups"),
    ],
)
def test_values_that_cannot_be(fails, tmp_path, rows, options, says):
    data = write(tmp_path / "t.csv", "x,w,y\n1,1,no\n2,1,yes\n3,2,no\n4,1,yes\n" + f"{rows}\n" + "6,3,yes\n")
    assert says in fails("train", data, "--target", "y", "--model", tmp_path / "m.model", *options)
    assert not (tmp_path / "m.model").exists()


def test_no_row_is_left_when_those_without_a_target_are(fails, tmp_path):
    data = write(tmp_path / "t.csv", "x,w,y\n1,1,\n2,0,yes\n3,0,no\n")
    said = fails("train", data, "--target", "y", "--weight", "w", "--model", tmp_path / "m.model")
    assert "no row is left to learn from: 1 of 3 rows have no target and 2 of 3 rows have a weight of 0" in said
    assert not (tmp_path / "m.model").exists()


def test_held_out_files_that_cannot_be(fails, table, folder, tmp_path):
    arguments = ("train", table, *FEW, "--validation")
    said = fails(*arguments, folder / "people.csv", "--model", tmp_path / "m.model")
    assert "has other columns than" in said
    assert "it lacks 'day', 'user' and 'w'" in said
    assert "the same file" in fails(*arguments, table)
    own = write(tmp_path / "own.csv", table.read_text())
    assert "the same file" in fails(*arguments, own, "--model", own)
    for option, column in (("--split-by", "day"), ("--group", "user")):
        assert f"{column!r} has nothing to decide" in fails(*arguments, own, option, column)
    text = re.sub(r"(?m)^((?:[^,]*,){2})[-.\d]+", r"\1plenty", table.read_text())
    said = fails(*arguments, write(tmp_path / "words.csv", text))
    assert "words.csv: column 'income' must hold numbers, but row 1 has 'plenty'" in said
    none = re.sub(r'"(yes|no)"', '"maybe"', table.read_text())
    assert "400 of 400 held-out rows have a class that training had not, 'maybe'; no row is left to score" in fails(
        *arguments, write(tmp_path / "none.csv", none)
    )
    assert not (tmp_path / "m.model").exists()


def test_a_metric_that_does_not_fit_is_found_out_before_scoring(fails, folder):
    assert "'r22' is no metric" in fails("evaluate", folder / "pays.model", folder / "people.csv", "--metric", "r22")
    assert "no column 'w'" in fails("evaluate", folder / "pays.model", folder / "people.csv", "--weight", "w")


def test_names_of_classes_may_have_the_signs_of_the_option(run, tmp_path):
    rows = "".join(f"{i % 9},{'<=50K' if i % 3 else 'a,b=c'}\n".replace("a,b=c", '"a,b=c"') for i in range(60))
    data = write(tmp_path / "t.csv", f"x,y\n{rows}")
    arguments = ("--target", "y", *QUICK, "-q", "--class-weight", "<=50K=1,a,b=c=2", "--model", tmp_path / "m.model")
    assert run("train", data, *arguments)[0] == 0
    assert fb.load(tmp_path / "m.model").class_weight == {"<=50K": 1.0, "a,b=c": 2.0}


@pytest.mark.parametrize(
    ("share", "says"),
    [
        ("0.0001", "a validation share of 0.0001 of 400 rows holds out none; give a larger one, or 0"),
        ("0.9999", "a validation share of 0.9999 of 400 rows leaves 1 to learn from, and two at least are needed"),
    ],
)
def test_a_share_that_leaves_a_side_without_rows(fails, table, tmp_path, share, says):
    asked = (table, "--target", "income", "--task", "regress", "--validation", share)
    assert says in fails("train", *asked, "--model", tmp_path / "m.model")
    assert says in fails("train", *asked, "--model", tmp_path / "m.model", "--memory", "1kB", "-q").splitlines()[-1]
    assert says in fails("convert", *asked, "--out", tmp_path / "t.store")
    estimator = fb.TableRegressor(validation=float(share), epochs=1)
    with pytest.raises(InputError, match=re.escape(says)):
        estimator.fit(str(table), target="income")
    assert list(tmp_path.iterdir()) == []


def test_what_needs_held_out_rows_where_the_usual_share_has_none(run, fails, tmp_path):
    data = write(tmp_path / "tiny.csv", "x,y\n1,a\n2,b\n3,a\n4,b\n5,a\n")
    for option, name in (("--patience", "patience"), ("--threshold", "threshold='auto'")):
        value = "3" if option == "--patience" else "auto"
        said = fails("train", data, "--target", "y", option, value)
        assert f"{name} needs held-out rows, and of 5 rows none is held out" in said
    status, out, _ = run("train", data, "--target", "y", "--epochs", "2")
    assert status == 0
    assert "No rows were held out, so there are no scores to show." in out


def test_a_negative_held_out_target_of_poisson(fails, run, table, tmp_path):
    """By train, in memory and by a store, and by convert: the row of the file of its own is named."""
    data = write(tmp_path / "t.csv", "x,y\n" + "".join(f"{i},{i % 7}\n" for i in range(60)))
    own = write(tmp_path / "own.csv", "x,y\n1,\n2,3\n3,-1\n4,2\n")
    asked = (data, "--target", "y", "--task", "regress", "--loss", "poisson", "--validation", own)
    says = "own.csv: target 'y': the loss 'poisson' needs numbers of at least 0, but row 3 has -1"
    assert says in fails("train", *asked)
    assert says in fails("convert", *asked, "--out", tmp_path / "t.store")
    assert says in run("train", *asked, "--memory", "0.1kB", "--model", tmp_path / "m.model")[2]
    assert (
        run("convert", data, "--target", "y", "--task", "regress", "--validation", own, "--out", tmp_path / "t.store")[
            0
        ]
        == 0
    )
