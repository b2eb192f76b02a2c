"""How Sphinx builds the book: `make book`, or `sphinx-build -W -n book _build/book`."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE / "_ext"), str(ROOT)]

import prepare  # noqa: E402 - found beside this file

# What the pages' cells inherit: the toolkit of this clone, and no lines of TensorFlow's C++ about the machine.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

project = "Convolutional networks and what they cost"
author = "the cnn-toolkit authors"
copyright = "MIT licence"  # noqa: A001 - Sphinx's name
language = "en"

extensions = [
    "myst_nb",
    "sphinx_design",
    "sphinx_exercise",
    "sphinx_togglebutton",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
    "sphinx_external_toc",
    "sphinx.ext.githubpages",
    "engine",
]
exclude_patterns = ["_build", "_generated", "_ext", "theme", "results", "**.ipynb"]
external_toc_path = "_toc.yml"
external_toc_exclude_missing = True
suppress_warnings = ["etoc.toctree"]
nitpicky = True

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "attrs_inline", "attrs_block"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

# The cache of jupyter-cache knows the cells only: its folder is named for what they import and read.
book_key = prepare.key()
nb_execution_mode = "cache"
nb_execution_cache_path = str(prepare.cache_folder(book_key))
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_output_stderr = "remove"
nb_merge_streams = True
# A figure is HTML with its description; `engine` makes an image of it for the formats that have no HTML.
nb_mime_priority_overrides = [("latex", "text/html", 5), ("epub", "text/html", 5)]

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
bibtex_default_style = "plain"

html_theme = "sphinx_book_theme"
html_title = "Convolutional networks and what they cost"
html_static_path = ["_static", str(prepare.STATIC)]
html_css_files = ["book.css"]
html_js_files = [("alive.js", {"type": "module"})]
html_copy_source = True
html_show_sourcelink = False
html_sidebars = {"**": ["navbar-logo.html", "search-button-field.html", "sbt-sidebar-nav.html"]}
html_theme_options = {
    "repository_url": prepare.REPOSITORY,
    "repository_branch": "main",
    "path_to_docs": "book",
    "use_repository_button": bool(prepare.REPOSITORY),
    "use_download_button": True,
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "navbar_persistent": [],
    "article_header_end": ["article-header-buttons.html"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "logo": {"text": "What CNNs cost"},
}
html_favicon = "_static/icon.svg"
html_context = {"default_mode": "auto"}
mathjax_path = "mathjax/tex-chtml.js"

latex_engine = "xelatex"
latex_use_xindy = False
latex_elements = {"papersize": "a4paper", "pointsize": "11pt"}
epub_show_urls = "no"
