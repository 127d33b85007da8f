"""How Sphinx builds the documentation: `python -m sphinx -W --keep-going -n docs OUT`."""

from importlib import metadata

project = "ordered-executor"
author = "The ordered-executor authors"
project_copyright = f"2026, {author}"
release = version = metadata.version("ordered-executor")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"{project} {release}"

autodoc_mock_imports = ["dask", "distributed", "ray", "tqdm"]  # their pages need the names of their classes only
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}

# The build needs no network, so names of other projects are not looked up.
nitpick_ignore_regex = [
    (r"py:.*", r"(asyncio|collections|concurrent|contextlib|multiprocessing|os|queue|types|typing)\..*"),
    (r"py:.*", r"(BrokenProcessPool|[A-Za-z]*Error|[A-Za-z]*Exception|ExceptionGroup|Context|BaseContext)"),
    (r"py:class", r"(Any|Callable|Iterable|Iterator|Mapping|Self|optional)"),
    (r"py:.*", r"(.*\.)?_[A-Za-z_]+(\..*)?"),  # private types and type variables in signatures
    (r"py:.*", r"(.*\.)?(T|P|P\.args|P\.kwargs)"),  # type variables
    (r"py:.*", r"(loky|distributed)\..*"),  # have no inventory here
]
