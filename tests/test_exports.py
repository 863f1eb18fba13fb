"""The public names: modules, docstrings, `final`, and checkpoints."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from types import FunctionType, ModuleType

import pytest
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import trio_turnstile
from trio_turnstile import Limiter, Scalable, open_turnstile, run_phases

PUBLIC = {
    name: value
    for name in dir(trio_turnstile)
    if not name.startswith("_") and not inspect.ismodule(value := getattr(trio_turnstile, name))
}

CLASSES = {name: value for name, value in PUBLIC.items() if isinstance(value, type)}

MADE_HERE = {
    name: value for name, value in PUBLIC.items() if isinstance(value, type | FunctionType)
}

OPEN = {"Scalable"}
"""Classes that are made to be subclassed."""


def is_protocol(cls: type) -> bool:
    return getattr(cls, "_is_protocol", False)


def test_nothing_else_is_exported() -> None:
    """No helper and no module is exported by accident."""
    assert PUBLIC.keys() | {"__version__"} == set(trio_turnstile.__all__)
    modules = {name for name, value in vars(trio_turnstile).items() if inspect.ismodule(value)}
    assert {name for name in modules if not name.startswith("_")} <= {
        "limits",
        "clusters",
        "simulation",
        "testing",
        "integrations",
        "cli",
    }


FRESH = """
import pickle, trio_turnstile
assert "Producer" in dir(trio_turnstile)
assert pickle.loads(b"ctrio_turnstile\\nReport\\n.") is trio_turnstile.Report
assert repr(trio_turnstile.Report) == "<class 'trio_turnstile.Report'>"
from trio_turnstile import *
assert Retry is trio_turnstile.Retry
"""


def test_a_name_that_is_loaded_late_is_like_the_others() -> None:
    """In a fresh interpreter it works with `dir`, ``import *`` and pickles before its first use."""
    subprocess.run([sys.executable, "-c", FRESH], check=True)


@pytest.mark.parametrize("module", [trio_turnstile, trio_turnstile.limits])
def test_a_name_that_is_not_there_is_an_error(module: ModuleType) -> None:
    """The error has the usual message, which `hasattr` needs; `dir` lists the names that exist."""
    assert not hasattr(module, "Producers")
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'x'"):
        _ = module.x
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_is_final_unless_made_to_be_subclassed(name: str) -> None:
    """Every public class except protocols and `Scalable` is final."""
    cls = CLASSES[name]
    is_open = name in OPEN or is_protocol(cls)
    assert getattr(cls, "__final__", False) is not is_open


@pytest.mark.parametrize("name", MADE_HERE)
def test_a_public_name_says_where_it_is_to_be_had(name: str) -> None:
    """The module of a public name is ``trio_turnstile``, and the name can be pickled."""
    value = MADE_HERE[name]
    assert (value.__module__, value.__qualname__) == ("trio_turnstile", name)
    assert pickle.loads(pickle.dumps(value)) is value


@pytest.mark.parametrize("name", MADE_HERE)
def test_a_public_name_has_a_docstring(name: str) -> None:
    """Every public class and function has a docstring of its own."""
    assert (MADE_HERE[name].__doc__ or "").strip()


MEMBERS = {
    f"{name}.{attribute}": value
    for name, cls in CLASSES.items()
    for attribute, value in vars(cls).items()
    if not attribute.startswith("_") and isinstance(value, FunctionType | property)
}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_public_method_or_property_has_a_docstring(name: str) -> None:
    """Every public method and property has a docstring."""
    assert (MEMBERS[name].__doc__ or "").strip()


@pytest.mark.parametrize("method", ["acquire", "__aenter__", "wait_idle"])
async def test_an_async_method_of_a_limiter_checkpoints_though_it_need_not_wait(
    method: str,
) -> None:
    """An async method checkpoints even if it need not wait."""
    with assert_checkpoints():
        await getattr(Limiter("api", 1), method)()


async def test_acquire_on_behalf_of_checkpoints() -> None:
    """`acquire_on_behalf_of` checkpoints even if it need not wait."""
    with assert_checkpoints():
        await Limiter("api", 1).acquire_on_behalf_of("borrower")


async def test_run_phases_checkpoints_though_there_is_nothing_to_do() -> None:
    """`run_phases` checkpoints even if its source is empty."""
    with assert_checkpoints():
        await run_phases([], limiter=1)
    with assert_checkpoints():
        await run_phases([Scalable()], limiter=1)


async def test_open_turnstile_checkpoints_on_the_way_out() -> None:
    """Leaving `open_turnstile` checkpoints; entering it does not, like a nursery."""
    turnstile = open_turnstile()
    await turnstile.__aenter__()
    await wait_all_tasks_blocked()
    with assert_checkpoints():
        await turnstile.__aexit__(None, None, None)
