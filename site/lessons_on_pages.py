"""What the site needs beyond Sphinx and MyST-NB.

Alternative text of figures, formulas as MathML, the cards of the start page with pictures from the
notebooks, a link to each notebook, and the explorers' script on the pages that have one.
"""

import html
import re
from functools import cache
from pathlib import Path

import dukpy
from docutils import nodes
from myst_nb.core.render import NbElementRenderer
from sphinx.util.docutils import SphinxDirective
from sphinxcontrib import katex

import pictures  # of scripts/

INTERACTIVE = "interactive: run the notebook to move the controls"


def with_alt_text(render_image):
    """MyST-NB drops the figure's alternative text, which stands in the output's metadata."""

    def render(self, data):
        image, *others = render_image(self, data)
        image["alt"] = data.output_metadata.get(data.mime_type, {}).get("alt", "")
        return [image, *others]

    return render


def with_small_note(render_text_plain):
    """Where a widget stood, the notebook holds one line of text, which is no output to read."""

    def render(self, data):
        if data.string == INTERACTIVE:
            return [nodes.paragraph("", INTERACTIVE, classes=["interactive"])]
        return render_text_plain(self, data)

    return render


@cache
def javascript():
    """An interpreter that has read KaTeX."""
    source = Path(katex.__file__).with_name("katex.min.js").read_text(encoding="utf-8")
    interpreter = dukpy.JSInterpreter()
    interpreter.evaljs(f"var module = {{}}, exports = module.exports = {{}}; {source}; 0")
    return interpreter


@cache
def mathml(latex, display):
    """LaTeX as MathML. Raises dukpy.JSRuntimeError with KaTeX's message."""
    options = "{output: 'mathml', displayMode: dukpy.display, throwOnError: true}"
    call = f"module.exports.renderToString(dukpy.latex, {options})"
    return javascript().evaljs(call, latex=latex, display=display)


def visit_math(self, node):
    self.body.append(mathml(node.astext(), False))
    raise nodes.SkipNode


def visit_math_block(self, node):
    self.body.append(f'<div class="formula">{mathml(node.astext(), True)}</div>')
    raise nodes.SkipNode


def cut(directive, number, figure, box):
    """(alternative text, address, width, height) of a part of a lesson's figure."""
    try:
        alt, image = pictures.cut(number, figure, box)
    except LookupError as error:
        raise directive.error(str(error)) from error
    name = f"{number}-{image.width}.png"
    image.save(Path(directive.env.srcdir, "static", name))
    return html.escape(alt), f"_static/{name}", *image.size


def split(line):
    return [part.strip() for part in line.split("|")]


class Cards(SphinxDirective):
    """One lesson a line: number | beginning of a figure's title | left top width | sentence."""

    has_content = True

    def run(self):
        cards = [self.card(*split(line)) for line in self.content if line]
        return [nodes.raw("", f'<div class="cards">{"".join(cards)}</div>', format="html")]

    def card(self, number, figure, box, sentence):
        path, notebook = pictures.read(number)
        title = re.match(r"# \d+ · (.*)", notebook.cells[0].source)[1]
        left, top, width = map(int, box.split())
        alt, address, *size = cut(self, number, figure, (left, top, width, width // 2))
        return (
            f'<a class="card" href="{path.stem}.html">'
            f'<img src="{address}" alt="{alt}" width="{size[0]}" height="{size[1]}">'
            f'<span class="card-number">{number}</span>'
            f'<strong class="card-title">{html.escape(title)}</strong>'
            f"<span>{html.escape(sentence)}</span></a>"
        )


def finish_page(app, pagename, templatename, context, doctree):
    """Add a link to the notebook and to each figure, and the explorers' script where it is used."""
    body = context.get("body", "")
    notebook = f"{pagename}.ipynb"
    if Path(app.srcdir, notebook).exists():
        link = f'<a href="notebooks/{notebook}" download>Download this notebook</a>'
        note = f'<p class="lesson-note">{link} to run it and do the exercises.</p>'
        body = body.replace("</h1>", f"</h1>\n{note}", 1)
        figure = r'(<img [^>]*src="(_images/[^"]*)"[^>]*>)'  # in full size, for small screens
        context["body"] = re.sub(figure, r'<a class="figure" href="\2">\1</a>', body)
    if "data-explorer=" in body:
        app.add_js_file("explorers.js")  # scripts/site.py writes it


def setup(app):
    NbElementRenderer.render_image = with_alt_text(NbElementRenderer.render_image)
    NbElementRenderer.render_text_plain = with_small_note(NbElementRenderer.render_text_plain)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.add_directive("cards", Cards)
    app.connect("html-page-context", finish_page)
    return {"parallel_read_safe": True}
