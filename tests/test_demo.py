"The demo corpus is as described: enough papers and questions, coded truly, each answer proven in the paper, made again byte by byte."
import csv, hashlib, re, sys
from pathlib import Path

import pypdf, pytest

from wattnb.index.documents import parse_pdf
from wattnb.index.corpus import read_bibliography
from wattnb.core.questions import is_blank, parse_refs, read_questions
from wattnb.scoring.answers import check_questions
from wattnb.scoring.wattbot_score import score_value

root = Path(__file__).resolve().parent.parent
data = root / 'data'
bibliography = read_bibliography(data / 'metadata.csv')
questions = {q.id: q for q in read_questions(data / 'demo_QA.csv')}
evidence = list(csv.DictReader(open(data / 'demo_evidence.csv', encoding='utf-8')))


def plain(text): return re.sub(r'[^a-z0-9]+', '', re.sub(r'-\s*\n\s*', '', text).lower())


def test_enough_of_everything():
    assert len(bibliography) >= 12 and len(questions) >= 60
    assert sum(q.is_na for q in questions.values()) >= 8
    for flag in ('Quote', 'Table', 'Figure', 'Math'): assert sum(q.flags[flag] for q in questions.values()) >= 5, flag
    assert {q.usage for q in questions.values()} == {'Public', 'Private'}
    kinds = {q.kind for q in questions.values()}
    assert kinds == {'number', 'text', 'true_false'} and any(q.answer_value.startswith('[') for q in questions.values())


@pytest.mark.parametrize('id_', list(bibliography))
def test_paper_is_a_short_pdf(id_):
    pages = len(pypdf.PdfReader(data / f'pdfs/{id_}.pdf').pages)
    assert 2 <= pages <= 6
    assert f'!data/pdfs/{id_}.pdf' in (root / '.gitignore').read_text().split()


def test_question_file_has_no_faults():
    faults = [f for f in check_questions(data / 'demo_QA.csv', bibliography) if f['severity'] == 'error']
    assert not faults, faults


def test_flags_agree_with_values():
    for q in questions.values():
        assert q.flags['is_NA'] == is_blank(q.answer_value)
        assert set(parse_refs(q.ref_id)) <= set(bibliography)
        if q.kind == 'true_false': assert q.answer_value in '01' and is_blank(q.answer_unit)


def test_sums_are_right():
    maths = [q for q in questions.values() if q.flags['Math']]
    for q in maths:
        formula = q.explanation.split(': ')[1]
        assert re.fullmatch(r'[\d.\s*+/-]+', formula) and score_value(q.answer_value, str(eval(formula))), q.id


@pytest.fixture(scope='session')
def parsed(): return {id_: parse_pdf(data / f'pdfs/{id_}.pdf', id_) for id_ in bibliography}


def test_every_answer_is_proven_on_its_page(parsed):
    "In the words of the PDF, and in the document that the parser makes of it."
    proven = set()
    for e in evidence:
        text = e['evidence'].split(' | ')[-1] if e['kind'] == 'cell' else e['evidence']
        page = pypdf.PdfReader(data / f"pdfs/{e['document_id']}.pdf").pages[int(e['page']) - 1].extract_text()
        assert plain(text) in plain(page), e
        doc = parsed[e['document_id']]
        assert plain(text) in plain(' '.join(p.text for p in doc.paragraphs)), f'lost by the parser: {e}'
        proven.add(e['id'])
    assert proven == {q.id for q in questions.values() if not q.is_na}


def test_table_rows_stay_together(parsed):
    "A cell's value is in the same paragraph as the name of its row."
    cells = [e for e in evidence if e['kind'] == 'cell']
    kept = [any(plain(e['evidence'].split(' | ')[0]) in plain(p.text) and plain(e['evidence'].split(' | ')[-1]) in plain(p.text)
                for p in parsed[e['document_id']].paragraphs) for e in cells]
    assert sum(kept) / len(kept) >= .9, [e['evidence'] for e, k in zip(cells, kept) if not k]


def test_made_again_byte_by_byte(tmp_path):
    pytest.importorskip('reportlab'); pytest.importorskip('pyphen')
    sys.path.insert(0, str(data / 'demo_source'))
    try:
        import make
        make.main(tmp_path)
    finally: sys.path.pop(0)
    for f in [*tmp_path.glob('*.csv'), *tmp_path.glob('pdfs/*.pdf')]:
        kept = data / f.relative_to(tmp_path)
        assert hashlib.sha256(f.read_bytes()).digest() == hashlib.sha256(kept.read_bytes()).digest(), f.name
