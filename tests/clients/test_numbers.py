"""Libraries that compute: SciPy, joblib, scikit-learn, emcee, DEAP, adaptive, pipefunc."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ordered_executor import OrderedProcessPoolExecutor

from . import tasks


def test_scipy(executor: OrderedProcessPoolExecutor) -> None:
    """`workers=` takes a map."""
    optimize = pytest.importorskip("scipy.optimize")
    bounds = [(-3.0, 3.0)] * 2
    given = {"seed": 1, "maxiter": 8, "popsize": 6, "updating": "deferred", "polish": False}
    alone = optimize.differential_evolution(tasks.bowl, bounds, **given)
    ours = optimize.differential_evolution(tasks.bowl, bounds, workers=executor.map, **given)
    assert np.array_equal(alone.x, ours.x)
    assert np.array_equal(
        optimize.brute(tasks.bowl, bounds, Ns=8, finish=None, workers=executor.map),
        optimize.brute(tasks.bowl, bounds, Ns=8, finish=None),
    )


def backend_of(executor: OrderedProcessPoolExecutor) -> Any:
    """A backend of joblib's on an executor: what docs/clients.md shows."""
    joblib = pytest.importorskip("joblib")

    class Backend(joblib.parallel.ParallelBackendBase):  # type: ignore[misc,name-defined]  # no types
        supports_retrieve_callback = True
        default_n_jobs = -1

        def effective_n_jobs(self, n_jobs: int) -> int:
            return executor.max_workers

        def submit(self, func: Any, callback: Any = None) -> Any:
            future = executor.submit(func)
            future.add_done_callback(callback)
            return future

        def retrieve_result_callback(self, future: Any) -> Any:
            return future.result()

        def abort_everything(self, ensure_ready: bool = True) -> None:
            """Batches that are with workers end by themselves."""

    joblib.register_parallel_backend("ordered", Backend)
    return joblib.parallel_config(backend="ordered")


def test_joblib(executor: OrderedProcessPoolExecutor) -> None:
    """Through a backend; all ways to return results, and an error."""
    joblib = pytest.importorskip("joblib")
    with backend_of(executor):
        for way in ("list", "generator", "generator_unordered"):
            made = joblib.Parallel(return_as=way)(joblib.delayed(tasks.square)(number) for number in range(300))
            assert sorted(made) == [number * number for number in range(300)]
        with pytest.raises(ValueError, match="0"):
            joblib.Parallel()(joblib.delayed(tasks.refuse)(number) for number in range(50))


def test_scikit_learn(executor: OrderedProcessPoolExecutor) -> None:
    """Through joblib."""
    pytest.importorskip("sklearn")
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    x, y = make_classification(200, random_state=1)
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0, 10.0]}, cv=4)
    alone = search.fit(x, y).cv_results_["mean_test_score"]
    forest = RandomForestClassifier(12, random_state=1).fit(x, y).predict_proba(x)
    with backend_of(executor):
        assert np.array_equal(search.set_params(n_jobs=-1).fit(x, y).cv_results_["mean_test_score"], alone)
        ours = RandomForestClassifier(12, random_state=1, n_jobs=-1).fit(x, y).predict_proba(x)
    assert np.allclose(ours, forest)


def test_emcee(executor: OrderedProcessPoolExecutor) -> None:
    """`pool=` takes what has a `map`."""
    emcee = pytest.importorskip("emcee")
    start = np.random.default_rng(1).normal(size=(16, 3))

    def chain(**how: Any) -> Any:
        sampler = emcee.EnsembleSampler(16, 3, tasks.log_normal, **how)
        sampler.random_state = np.random.RandomState(1).get_state()
        sampler.run_mcmc(start, 20)
        return sampler.get_chain()

    assert np.array_equal(chain(pool=executor), chain())


def test_deap(executor: OrderedProcessPoolExecutor) -> None:
    """Its toolbox takes a map."""
    base = pytest.importorskip("deap.base")
    toolbox = base.Toolbox()
    toolbox.register("map", executor.map)
    assert list(toolbox.map(tasks.bowl, [(n, n) for n in range(100)])) == [2.0 * (n - 1) ** 2 for n in range(100)]


def test_adaptive(executor: OrderedProcessPoolExecutor) -> None:
    """It asks for the class to know how many workers there are: say `ntasks`."""
    adaptive = pytest.importorskip("adaptive")
    learner = adaptive.Learner1D(tasks.square, bounds=(-1, 1))
    adaptive.BlockingRunner(learner, npoints_goal=60, executor=executor, ntasks=2, shutdown_executor=False)
    assert learner.npoints >= 60
    assert all(value == point * point for point, value in learner.data.items())


@pytest.mark.parametrize("executor", [None], indirect=True)
def test_pipefunc(executor: OrderedProcessPoolExecutor) -> None:
    """`executor=`, and no backlog: it submits all of it, and then reads."""
    pipefunc = pytest.importorskip("pipefunc")
    squares = pipefunc.PipeFunc(tasks.square, "squares", mapspec="number[i] -> squares[i]")
    how = {"parallel": True, "storage": "dict", "chunksizes": 1}
    made = pipefunc.Pipeline([squares]).map({"number": np.arange(40)}, executor=executor, **how)
    assert list(made["squares"].output) == [number * number for number in range(40)]
