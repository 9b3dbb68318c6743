"""Sphinx configuration of the site. `scripts/site.py` copies it beside the notebooks and builds."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "A course on autoencoders"
html_title = project
author = "The aecourse authors"
copyright = author  # noqa: A001

extensions = ["myst_nb", "lessons_on_pages"]
exclude_patterns = []
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables in outputs
nb_ipywidgets_js = {}  # nothing is loaded for widgets: they need a kernel
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "html_image", "attrs_block"]
html_math_renderer = "mathml"

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = html_use_index = False
html_show_search_summary = False  # it uses fetch, which browsers refuse where a page is a file
pygments_style = "friendly"
pygments_dark_style = "github-dark"
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0a5c8f",
        "color-brand-content": "#0072b2",
        "color-brand-visited": "#0072b2",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7cc0ec",
        "color-brand-content": "#7cc0ec",
        "color-brand-visited": "#7cc0ec",
        "color-background-primary": "#16181b",
        "color-background-secondary": "#1c1f23",
    },
}
