"""How the documentation is built: ``sphinx-build -W -n -b html docs docs/_build/html``.

The build needs no network. With ``DOCS_ONLINE=1`` in the environment it fetches
the inventories of Python and trio, and links to their pages; the published site is
built that way. Without it, the names of Python and trio are plain text.
"""

import os
import sys
from importlib.metadata import version as version_of
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.pycode import ModuleAnalyzer

import trio_turnstile

project = "trio_turnstile"
author = "The trio_turnstile maintainers"
release = version = version_of("trio-turnstile")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib_trio",
]
exclude_patterns = ["_build", "operations.rst"]
default_role = "obj"
nitpicky = True

html_theme = "furo"
html_title = f"trio_turnstile {release}"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {name: f"~trio_turnstile.{name}" for name in ("Event", "Watcher")}
autodoc_typehints_format = "short"
napoleon_custom_sections = ["Cancellation", "Error handling"]
napoleon_google_docstring = napoleon_numpy_docstring = False  # see google_style() below

# Type variables, and aliases that are not public: the pages spell them out.
SPELLED_OUT = (
    "[A-Z](_co|_contra)?|On|Trigger|Sink|PhaseOptions|ShareOptions|LimiterOptions|CallBound|Fate"
    "|Path|RunLedger|ASGIApp"
)
nitpick_ignore_regex = [
    ("py:class", rf"(.*\.)?({SPELLED_OUT})"),
    ("py:class", "Metric|MeterProvider|TracerProvider|TypeAliasForwardRef"),  # of third parties
]

if os.environ.get("DOCS_ONLINE") == "1":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "trio": ("https://trio.readthedocs.io/en/stable", None),
    }
else:
    nitpick_ignore_regex.append(
        ("py:.*", r"len|logging|(collections|contextlib|logging|math|os|random|trio|types)\..*")
    )

# Examples take no time, however long they sleep: the clock jumps when every task waits.
doctest_global_setup = """
import trio, trio.testing

real_run = trio.run
trio.run = lambda main, *args: real_run(
    main, *args, clock=trio.testing.MockClock(autojump_threshold=0)
)
"""
doctest_global_cleanup = "trio.run = real_run"


def google_style(app: Sphinx, what: str, *about: Any) -> None:
    """Parse the docstring of a property or field like any other docstring.

    Napoleon would take the text before a colon in its first line for a type.
    """
    what = "method" if what in ("attribute", "property") else what
    *about, lines = about
    lines[:] = GoogleDocstring(lines, app.config, app, what, *about).lines()


def find_attributes() -> None:
    """Let autodoc find the docstrings of fields in the modules that define the classes.

    Autodoc looks in the module that a class names as its own, which is the facade.
    """
    for name in trio_turnstile.__all__:
        getattr(trio_turnstile, name)  # modules are loaded when a name is used
    facade = ModuleAnalyzer.for_module(trio_turnstile.__name__)
    facade.analyze()
    for name in [name for name in sys.modules if name.startswith("trio_turnstile.")]:
        module = ModuleAnalyzer.for_module(name)
        module.analyze()
        facade.attr_docs |= module.attr_docs
        facade.tagorder |= module.tagorder


def find_in_facade(app: Sphinx, env: BuildEnvironment, node: Any, text: Any) -> Any:
    """Resolve short names in the subpackages that belong to the package itself."""
    if not str(node.get("py:module")).startswith("trio_turnstile."):
        return None
    node["py:module"] = "trio_turnstile"
    return env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], node["reftarget"], node, text
    )


def setup(app: Sphinx) -> None:
    """Connect the functions above to Sphinx."""
    app.connect("autodoc-process-docstring", google_style)
    app.connect("missing-reference", find_in_facade)
    find_attributes()
