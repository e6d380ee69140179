"""``Checkpoint``: a training kept in a file while it runs, and gone on with from there to the same bits."""

from __future__ import annotations

import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

import numpy as np

from fullbatch.core.parameters import Layer
from fullbatch.docstrings import described
from fullbatch.errors import ModelFileError, check_number
from fullbatch.machine import arrays as machine_arrays
from fullbatch.machine.plain_values import Arrays, json_ready
from fullbatch.machine.safe_output import check_output, path_of
from fullbatch.saving import evaluation_log
from fullbatch.saving.evaluation_log import EvaluationLog
from fullbatch.saving.model_file import (
    check_replaceable,
    content_of,
    content_of_layers,
    read,
    theta_of,
    unpack_checkpoint,
    write,
)
from fullbatch.saving.training_state import LogName, pack_moment
from fullbatch.training.checkpoints import Moment
from fullbatch.training.optimizers import Evaluation

WHAT = "the checkpoint"


@described({})
class Checkpoint:
    """Keep a training in a file while it runs, and go on with it from there.

    Parameters
    ----------
    path : str or path-like
        The file. It is written under a temporary name and renamed, so that there is always a whole one. L-BFGS keeps
        a log beside it, ``path.XXXXXXXX.log``, which is of use together with it alone.
    seconds : float
        So much time passes from one writing to the next; at the end of the training, and where Ctrl-C ends it, a last
        one follows. With 0 every update is written before the next one begins.

    Notes
    -----
    ``set_callbacks(checkpoint)`` has an estimator keep its training, and ``fit(..., resume=checkpoint)`` goes on with
    it; ``gradient_descent`` has ``checkpoint=`` and ``resume=``. Data and parameters have to be the same, but for
    ``max_iter`` and what is of the machine alone. On the same instruction set, and with the same versions of the
    libraries, the outcome has the bits of a training that was never interrupted; where they are others, a warning says
    that it will not. What cannot be written later on, on a full disk, is a warning too: the training goes on, and the
    next writing is tried. A checkpoint is of one training at a time.

    The file is a model as well: ``fullbatch.load(path)`` is the one that Ctrl-C would have left. Reading it runs no
    code.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fullbatch as fb
    >>> X = np.random.default_rng(0).standard_normal((300, 4))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> path = os.path.join(tempfile.mkdtemp(), "late.ckpt")
    >>> checkpoint = fb.Checkpoint(path, seconds=60)
    >>> settings = {"hidden_layer_sizes": (8,), "learning_rate": "linear", "random_state": 0}
    >>> model = fb.MLPClassifier(max_iter=5, **settings).set_callbacks(checkpoint).fit(X, y)
    >>> more = fb.MLPClassifier(max_iter=9, **settings).set_callbacks(checkpoint).fit(X, y, resume=checkpoint)
    >>> len(model.loss_curve_), len(more.loss_curve_), fb.load(path).n_iter_
    (5, 9, 9)
    """

    def __init__(self, path: str | os.PathLike[str], seconds: float = 60.0) -> None:
        self.path = path_of(path, "a checkpoint")
        self.seconds = check_number("seconds", seconds, at_least=0)
        self._model_of: Callable[[Any], Any] = _itself
        self._extra: dict[str, Any] = {}
        self._training: Any = None  # whose moments come: the facts that it has
        self._due = 0.0
        self._writing: _Writing | None = None
        self._log = _Log(self.path)

    def carry(self, *, model_of: Callable[[Any], Any] | None = None, extra: dict[str, Any] | None = None) -> None:
        """Have the file hold more than the estimator: for those who train one as a part of something larger.

        Parameters
        ----------
        model_of : callable or None, optional
            Makes of the estimator, as it is at a moment, the model that ``fullbatch.load`` is to give: that of a table.
        extra : dict, optional
            Plain values that JSON has, to be had again by ``extra``.
        """
        self._model_of = model_of or self._model_of
        self._extra = self._extra if extra is None else json_ready(extra)

    @property
    def extra(self) -> dict[str, Any]:
        """What ``carry`` was given when the file was written. ModelFileError where it cannot be read."""
        found = self._read()[0].get("extra", {})
        if not isinstance(found, dict):
            raise ModelFileError(f"{self.path} is a damaged checkpoint (extra is no dictionary).")
        return found

    def _read(self) -> tuple[dict[str, Any], Arrays]:
        if not os.path.exists(self.path):
            makes = f"`fullbatch train DATA --checkpoint {self.path}` makes one"
            raise ModelFileError(f"no such checkpoint: {self.path}; {makes}.")
        return read(self.path)

    # What trainings call

    def tell(self, moment: Moment) -> None:
        """Write the moment where it is time, in a thread of its own; the last one before this returns."""
        if moment.facts is not self._training:
            self._begin(moment)
        if moment.evaluation is not None:
            self._log.take(moment, moment.evaluation)
        if self._writing is not None and not self._writing.is_alive():
            self._ended()
        if not moment.last and (time.monotonic() < self._due or self._writing is not None):
            return
        self._ended()
        writing = _Writing(self._writer(moment))
        self._writing = writing
        try:
            writing.start()
        except RuntimeError:  # no thread starts any more where Python is ending, nor where the system has no more
            writing.run()
        writing.launched = True
        if moment.last or not self.seconds:
            self._ended()
        self._due = time.monotonic() + self.seconds

    def due(self) -> bool:
        """Whether a moment would be written now, if it were told one.

        Returns
        -------
        bool
            Whether ``seconds`` are over since the last was written, and that one is on the disk.
        """
        writing = self._writing
        free = writing is None or not writing.is_alive()
        return self._training is None or (free and time.monotonic() >= self._due)

    def state(self) -> Moment:
        """The moment that the file holds.

        Returns
        -------
        Moment
            The training's state, and the model as it was then.

        Raises
        ------
        ModelFileError
            For a file that is missing, cut short or damaged, of a newer version, or a model and no checkpoint.
        """
        self._ended()
        content, arrays = self._read()
        kept = unpack_checkpoint(self.path, content, arrays)
        if kept.log is None:
            return kept.moment
        return kept.moment._replace(evaluations=self._log.known(kept.log, kept.moment))

    # scikit-learn's protocol of callbacks: it is told nothing by it, but that is how an estimator gets to know of it.

    def setup(self, estimator: Any, context: Any) -> None:
        """Before a fit: nothing."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """After a fit, however it ended: no writing is under way any more, and no log is open."""
        self._ended()
        self._log.close()
        self._training = None

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Before an epoch: nothing."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """After an epoch: nothing."""

    def __getstate__(self) -> dict[str, Any]:
        """Path and times: what is under way stays where it is."""
        return {"path": self.path, "seconds": self.seconds, "_model_of": self._model_of, "_extra": self._extra}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["seconds"])  # type: ignore[misc]
        self.__dict__.update(state)

    # How it is written

    def _begin(self, moment: Moment) -> None:
        """Before a training's first update: what cannot be written, or cannot be kept, is an error now."""
        self._ended()
        check_output(self.path, WHAT)
        check_replaceable(self.path)
        _content_of(self._on_host(moment).model, {})
        self._training = moment.facts
        self._due = time.monotonic() + self.seconds

    def _on_host(self, moment: Moment) -> _OnHost:
        """The moment with its arrays on the host. They are never changed, so that on the host nothing is copied."""
        model = moment.model()
        if isinstance(model, tuple):
            model = tuple(Layer(_host(W), _host(b)) for W, b in model)
        else:
            fitted = {name: value for name, value in vars(model).items() if name.endswith("_")}
            vars(model).update({name: machine_arrays.moved(value, _host) for name, value in fitted.items()})
            model = self._model_of(model)
        state = moment.state
        best = None if state.best_theta is None else _host(state.best_theta)
        state = state._replace(
            theta=_host(state.theta), arrays=tuple(_host(array) for array in state.arrays), best_theta=best
        )
        return _OnHost(moment._replace(state=state), model)

    def _writer(self, moment: Moment) -> Callable[[], None]:
        """What writes the moment, in any thread."""
        made = None if moment.anywhere else self._on_host(moment)
        log, path, extra = self._log.at(moment), self.path, self._extra

        def run() -> None:
            on_host = made or self._on_host(moment)
            theta = on_host.moment.state.theta
            if not np.isfinite(theta).all():
                return  # the training is about to end with an error, and what was kept before is of use
            self._log.sync()
            arrays: Arrays = {}
            write(path, _content(on_host, log, extra, arrays), arrays, WHAT)
            self._log.remove_others(log)

        return run

    def _ended(self) -> None:
        """Wait for the writing that is under way, and say what went wrong with it."""
        writing = self._writing
        if writing is None:
            return
        writing.wait()
        # Only now, after the wait. Were it None while a thread still writes, and Ctrl-C came, the last checkpoint could
        # be written beside that one, and the older of the two be renamed last.
        self._writing = None
        if writing.error is not None:
            warnings.warn(f"{WHAT} {self.path} was not written: {writing.error} The next one is tried.", stacklevel=3)


class _OnHost(NamedTuple):
    moment: Moment
    model: Any


def _content(on_host: _OnHost, log: LogName | None, extra: dict[str, Any], arrays: Arrays) -> dict[str, Any]:
    own = getattr(on_host.model, "estimator_", on_host.model)  # of a table's
    content = _content_of(on_host.model, arrays)
    training = pack_moment(on_host.moment, theta_of(own), arrays, log)
    return {**content, "training": training, **({"extra": extra} if extra else {})}


def _content_of(model: Any, arrays: Arrays) -> dict[str, Any]:
    return content_of_layers(model, arrays) if isinstance(model, tuple) else content_of(model, arrays)


def _itself(model: Any) -> Any:
    return model


def _host(value: Any) -> Any:
    return machine_arrays.to_host(value)


class _Writing(threading.Thread):
    """A thread that writes.

    error : what went wrong, or None;  launched : it has been started, and nothing came between
    """

    def __init__(self, write: Callable[[], None]) -> None:
        super().__init__(name="fullbatch-checkpoint")
        self.write: Callable[[], None] | None = write
        self.error: str | None = None
        self.launched = self._begun = self._given_up = False
        self._lock, self._done = threading.Lock(), threading.Event()

    def wait(self) -> None:
        """Until it has ended; where Ctrl-C came while it was being started, it ends now, or never begins."""
        with self._lock:
            self._given_up = not self.launched and not self._begun
        if not self._given_up:
            self._done.wait()

    def run(self) -> None:
        with self._lock:
            if self._given_up:
                return
            self._begun = True
        write, self.write = self.write, None  # what it holds is let go of here, and not when the next one is written
        assert write is not None
        try:
            write()
        except Exception as error:  # of any kind: it is said where the training is, and not lost with the thread
            self.error = str(error) or type(error).__name__  # not itself: its traceback holds what was to be written
        finally:
            del write
            self._done.set()


class _Log:
    """The log of L-BFGS's evaluations that belongs to a checkpoint: which file it is, and what of it counts."""

    def __init__(self, path: str) -> None:
        self.path = Path(os.path.realpath(path))
        self.file: EvaluationLog | None = None
        self.token = self.search = self.without = ""
        self.kept = 0  # entries that a training goes on after

    def name(self, token: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{token}.log")

    def known(self, log: LogName, moment: Moment) -> _Known | None:
        """The evaluations of a training that goes on; they will be appended to. None where the file is not there."""
        self.close()
        if not self.name(log.token).exists():
            return None
        self.token, self.search, self.kept = log.token, moment.search, log.entries
        return _Known(self.name(log.token), len(moment.state.theta), log.entries)

    def take(self, moment: Moment, evaluation: Evaluation) -> None:
        """Append an evaluation, but for those that are there already."""
        if moment.search == self.without:
            return
        try:
            if moment.number == 1 or self.file is None:
                self._open(moment, len(evaluation.gradient))
            assert self.file is not None
            if moment.number <= self.file.count:
                return
            if not self.file.has_room():
                taken = self.file.count * self.file.entry
                self._give_up(moment, f"it has {taken:,} bytes, and no more may be taken")
                return
            self.file.append(evaluation)
        except OSError as error:
            self._give_up(moment, str(error.strerror or error))

    def _open(self, moment: Moment, size: int) -> None:
        """The log of this search: that which the training was read from, or a new one."""
        self.close()
        if moment.search != self.search or not self.token:
            self.token, self.search, self.kept = token_hex(4), moment.search, 0
        self.file = EvaluationLog(self.name(self.token), size, self.kept)

    def _give_up(self, moment: Moment, reason: str) -> None:
        path = self.name(self.token)
        self.close()
        self.without = moment.search
        path.unlink(missing_ok=True)
        warnings.warn(
            f"the log of L-BFGS's evaluations, {path}, is given up ({reason}): the training goes on, and a checkpoint "
            "keeps the parameters but not the memory of the search, so that a resumed one has other bits.",
            stacklevel=4,
        )

    def at(self, moment: Moment) -> LogName | None:
        """The log as a checkpoint of this moment names it."""
        if not self.token or moment.search != self.search or moment.search == self.without:
            return None
        count = self.kept if self.file is None else self.file.count
        return LogName(self.token, min(count, moment.state.updates))

    def sync(self) -> None:
        if self.file is not None:
            self.file.sync()

    def remove_others(self, log: LogName | None) -> None:
        """Remove the logs of earlier trainings: no checkpoint of this name needs them any more."""
        ours = re.compile(re.escape(self.path.name) + r"\.([0-9a-f]{8})\.log")
        for name in os.listdir(self.path.parent):
            found = ours.fullmatch(name)
            if found and (log is None or found[1] != log.token):
                try:
                    self.path.with_name(name).unlink(missing_ok=True)
                except OSError:  # Windows does not remove what is still being read
                    continue

    def close(self) -> None:
        if self.file is not None:
            self.kept = self.file.count
            self.file.close()
        self.file = None


class _Known:
    """The evaluations in a log, which are read as they are asked for."""

    def __init__(self, path: Path, size: int, count: int) -> None:
        self.path, self.size, self.count = path, size, count

    def __iter__(self) -> Iterator[Evaluation]:
        return evaluation_log.read(self.path, self.size, self.count)
