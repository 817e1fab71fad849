"The checker of the documentation finds dead links, missing anchors and pictures without a description."
import importlib.util, json, sys
from pathlib import Path

import pytest

tests = Path(__file__).resolve().parent


@pytest.fixture(scope='module')
def site():
    spec = importlib.util.spec_from_file_location('site_check', tests / 'site.py') # `site` is a module of the standard library too
    module = sys.modules['site_check'] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(site, text):
    p = site.Page(); p.add_markdown(text); return p


@pytest.mark.parametrize('text, fault', [
    ('[a](05_scoring/04_scores.ipynb#intervals)', ''), ('[a](05_scoring/04_scores.ipynb)', ''), ('[a](#own-heading)\n\n## Own heading', ''), ('[a](https://example.org/x#y)', ''),
    ('[a](05_scoring/04_scores.ipynb#nowhere)', 'no anchor #nowhere'), ('[a](06_missing.ipynb)', 'which is not there'), ('[a](05_scoring/04_scores.html)', "write the notebook's name"),
    ('[a](#none)', 'no anchor #none'), ('![](images/demo_page.png)', 'without alt text'), ('![what](images/none.png)', 'is not there'),
    ('<img src="images/demo_page.png">', 'without alt text'), ('<a href="gone.txt">x</a>', 'which is not there')])
def test_faults_of_links(site, text, fault):
    goal = page(site, '# Scoring\n\n## Intervals')
    found = list(site.link_faults('here', page(site, text), {'05_scoring/04_scores': goal}, tests.parent / 'nbs'))
    assert len(found) == bool(fault) and fault in ''.join(found)


def test_anchors_are_numbered_as_pandoc_does(site):
    assert page(site, '## A `b` c\n\n## A b c\n\n## 2. Third!').ids == {'a-b-c', 'a-b-c-1', 'third'}


def test_a_page_begins_with_its_paragraph(site, tmp_path, monkeypatch):
    "Title and description become the front matter; what stands under them is not lost with them."
    monkeypatch.setattr(site.pages, 'proc', tmp_path)
    site.pages.prepare('index', {})
    first, second, *_ = json.loads((tmp_path / 'index.ipynb').read_text('utf-8'))['cells']
    assert 'title: wattnb' in ''.join(first['source']) and 'You have papers as PDFs' in ''.join(second['source'])
