"""Settings of the site: `python -m sphinx -W --keep-going docs build/docs`. Nothing is downloaded."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import clozelab

project, author, version = "clozelab", "the clozelab contributors", clozelab.__version__
project_copyright = "the clozelab contributors, Apache-2.0"
release = version
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinx_design", "make_pages"]
exclude_patterns = ["make_pages"]

html_theme = "furo"
html_title = f"clozelab {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5d8f", "color-brand-content": "#0b5d8f"},
    "dark_css_variables": {"color-brand-primary": "#7cc4f0", "color-brand-content": "#7cc4f0"},
}
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "github-dark-high-contrast"
copybutton_prompt_text, copybutton_prompt_is_regexp = r">>> |\.\.\. ", True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
# A lesson's cells begin with any level of heading; and the type `bytes` is not the attribute of that name.
suppress_warnings = ["myst.header", "ref.python"]

default_role = "code"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
autodoc_mock_imports = ["transformers", "accelerate"]
python_use_unqualified_type_names = True
