"From papers to passages, for any paper: no text lost, none doubled, sizes kept; and ids as WattBot makes them."
import re
from pathlib import Path

import linear
import pytest
from hypothesis import given, settings, strategies as st

from wattnb.index.documents import Document, Paragraph, Section, Sentence, load_document
from wattnb.index.passages import (LONGEST, PassageSettings, Unit, _headers_footers, clean_line, join_broken, make_passages, node_tree,
                                   show_units, units_of, words)

shared = Path(__file__).resolve().parents[2] / 'shared/wattbot/data/corpus'

word = st.text('abcdefgXYZ0159.,%-()', min_size=1, max_size=9)
line = st.lists(word, min_size=1, max_size=14).map(' '.join)
raw_page = st.lists(line | st.sampled_from(['Table 1: Energy', 'Model kWh CO2', 'BERT 12 3.4', '2 Results', 'References', 'the consump-', 'tion grew.']), max_size=14).map('\n'.join)
known = st.tuples(line, st.sampled_from(['text', 'table', 'caption', 'heading', 'footnote', 'figure', 'reference']))


@st.composite
def documents(draw):
    pages = []
    for i in range(1, draw(st.integers(1, 3)) + 1):
        if draw(st.booleans()): ps = [Paragraph(t) for t in draw(st.lists(raw_page, max_size=2))]
        else: ps = [Paragraph(t, dict(kind=k, page=i, section='1 Energy', caption='')) for t, k in draw(st.lists(known, max_size=6))]
        pages.append(Section(f'Page {i}', ps, dict(page=i)))
    return Document('paper', 'A title', '', {}, pages)


units = st.lists(st.builds(Unit, st.integers(1, 60).map(lambda n: ' '.join(['w'] * n)), st.sampled_from(['text', 'text', 'text', 'row', 'caption', 'heading', 'reference', 'figure']),
                           st.integers(1, 3), st.sampled_from(['', '1 A', '2 B']), st.just('paper:sec1:p1')), max_size=40)


def squeezed(text): return re.sub(r'[\s-]+', '', text) # line-end hyphens and white space may go


@settings(max_examples=200)
@given(documents())
def test_units_hold_the_papers_text_in_order(doc):
    "All but page numbers, and the head and foot lines that repeat."
    lines = [[(clean_line(l), p.metadata.get('kind')) for p in s.paragraphs for l in p.text.split('\n')] for s in doc.sections]
    margins = _headers_footers([[l for l, kind in page if l and not kind] for page in lines])
    text = [l for page in lines for l, kind in page if kind or not (re.fullmatch(r'\d{1,4}', l) or re.sub(r'\d+', '#', l) in margins)]
    assert squeezed(' '.join(u.text for u in units_of(doc))) == squeezed(' '.join(text))


@settings(max_examples=200)
@given(documents())
def test_no_unit_is_longer_than_the_limit(doc):
    assert all(0 < len(u.text.split()) <= LONGEST for u in units_of(doc))


@settings(max_examples=300)
@given(units, st.integers(20, 150), st.integers(0, 40), st.integers(0, 1000))
def test_passages_lose_nothing_double_nothing_keep_their_size(us, size, overlap, first):
    ps = make_passages(Document('paper', 'A title'), PassageSettings(size, overlap), us, first)
    at = 0
    for i, p in enumerate(ps):
        a, b = p.units[0] - first, p.units[1] - first
        assert a <= at < b, 'a gap, or a passage that adds nothing'
        again = us[a:at]                                                        # the overlap: whole sentences of running text
        assert sum(len(u.text.split()) for u in again) <= overlap and all(u.kind == 'text' for u in again)
        assert not again or ps[i - 1].page == p.page and ps[i - 1].section == p.section
        part, at = us[a:b], b
        assert p.text == show_units(part) and p.n_words == sum(len(u.text.split()) for u in part)
        assert len({(u.page, u.section, u.kind == 'reference') for u in part}) == 1, 'across a page or section'
        longest = max(len(u.text.split()) for u in part)
        assert len(part) == 1 or p.n_words <= 1.7 * size, (p.n_words, size)
        if not any(u.kind == 'row' for u in part): assert len(part) == 1 or p.n_words <= 1.3 * size or p.n_words <= overlap + longest
    assert at == len(us)
    assert len({p.id for p in ps}) == len(ps) and [p.id for p in ps] == [f'paper#{i + 1}' for i in range(len(ps))]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(4, 12), st.integers(1, 10)), min_size=1, max_size=6))
def test_tables_that_fit_stay_whole(tables):
    us, bounds = [], []
    for k, (rows, width) in enumerate(tables):
        us += [Unit('running text ' * 10, 'text', 1, '', 'p:sec1:p1')] * 3
        a = len(us)
        us += [Unit(f'Table {k}: energy', 'caption', 1, '', 'p:sec1:p1'), *[Unit(' '.join(['9'] * width), 'row', 1, '', 'p:sec1:p1')] * rows]
        bounds.append((a + 1, len(us), rows * width))
    ps = make_passages(Document('p', ''), PassageSettings(100, 0), us)
    for a, b, n in bounds:
        if n <= 30: assert any(p.units[0] <= a and b <= p.units[1] for p in ps) or n > 100


@settings(max_examples=200)
@given(st.lists(line, max_size=8))
def test_joined_lines_keep_every_letter(lines):
    lines = [l for l in map(clean_line, lines) if l]
    assert squeezed(join_broken(lines)) == squeezed(' '.join(lines))


def test_joining_is_linear():
    "In processor time, which other processes do not lengthen: a quadratic one would take minutes."
    import time
    t = time.process_time(); join_broken(['the consump-', 'tion of long papers, line after line'] * 20_000)
    assert time.process_time() - t < 10


@settings(max_examples=200)
@given(st.text(max_size=200))
def test_words_of_any_text(text):
    w = words(text)
    assert all(isinstance(x, str) and x and x == x.lower() for x in w) and words(text) == w


@pytest.mark.parametrize('a,b', [('kilowatt-hours', 'kWh'), ('12%', '12 percent'), ('$5', 'USD 5'), ('CO₂e', 'CO2e'), ('1,200 tonnes', '1200 tons'), ('metric tons', 'ton'), ('grams', 'g')])
def test_units_have_one_spelling(a, b): assert set(words(b)) <= set(words(a)) or set(words(a)) <= set(words(b))


@settings(max_examples=100)
@given(documents())
def test_tree_ids_count_through_the_paper(doc):
    nodes = node_tree(doc)
    ids = [n.id for n in nodes]
    assert len(set(ids)) == len(ids) and all(n.parent is None or n.parent in ids[:i] for i, n in enumerate(nodes))
    for kind, letter in (('section', 'sec'), ('paragraph', 'p'), ('sentence', 's')):
        assert [n.id.rsplit(':', 1)[1] for n in nodes if n.kind == kind] == [f'{letter}{i + 1}' for i in range(sum(n.kind == kind for n in nodes))]


def test_tree_of_a_paper_without_sections_or_sentences():
    ids = [n.id for n in node_tree(Document('d', 'T', 'One. Two; three!\n\nFour.'))]
    assert ids == ['d', 'd:sec1', 'd:sec1:p1', 'd:sec1:p1:s1', 'd:sec1:p1:s2', 'd:sec1:p1:s3', 'd:sec1:p2', 'd:sec1:p2:s4']
    kept = Document('d', 'T', '', {}, [Section('Page 1', [Paragraph('a b', {}, [Sentence('a'), Sentence('b')])])])
    assert [n.text for n in node_tree(kept) if n.kind == 'sentence'] == ['a', 'b']


@pytest.mark.skipif(not shared.exists(), reason='the 32 papers are not here')
def test_shipped_corpus_has_the_nodes_of_the_existing_tools():
    kinds = [n.kind for p in sorted(shared.glob('*.json')) for n in node_tree(load_document(p))]
    assert len(kinds) == 26_177 and (kinds.count('document'), kinds.count('section'), kinds.count('paragraph'), kinds.count('sentence')) == (32, 639, 944, 24_562)


def test_papers_are_read_in_linear_time():
    "Whatever a paper repeats, cutting it takes time in proportion to its length: initials (`V. V. V.`), numbers with signs (`1-1%-1%`) and hyphens did not."
    linear.check("""
from wattnb.index.documents import Document, Paragraph, Section, check_text, join_lines, split_sentences
from wattnb.index.passages import *
doc = lambda t, **meta: Document('d', 't', t, {}, [Section('Page 1', [Paragraph(t, dict(meta))], dict(page=1))])
entries = dict(raw=lambda t: make_passages(doc(t)), known=lambda t: make_passages(doc(t, kind='text', page=1)), plain=lambda t: units_of(Document('d', 't', t)), tree=lambda t: node_tree(doc(t)),
    words=words, sentences=split_sentences, lines=lambda t: join_lines(t.split('\\n')), broken=lambda t: join_broken(t.split('\\n')), gate=lambda t: check_text([t]), cues=reference_cues, kind=line_kind)
""")
