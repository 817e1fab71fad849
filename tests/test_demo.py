"The demo corpus is as described: enough papers and questions, coded truly, each answer proven in the paper, made again byte by byte."
import csv, hashlib, re, sys
from pathlib import Path

import pypdf, pytest

from wattnb.index.documents import parse_pdf
from wattnb.index.corpus import read_bibliography
from wattnb.core.questions import is_blank, parse_refs, read_questions
from wattnb.scoring.answers import check_questions
from wattnb.scoring.wattbot_score import read_band, score_value

root = Path(__file__).resolve().parent.parent
data = root / 'data'
bibliography = read_bibliography(data / 'metadata.csv')
questions = {q.id: q for q in read_questions(data / 'demo_QA.csv')}
questions_2026 = {q.id: q for q in read_questions(data / 'demo2026_QA.csv')}
evidence, evidence_2026 = (list(csv.DictReader(open(data / f'{x}_evidence.csv', encoding='utf-8'))) for x in ('demo', 'demo2026'))
both_files = pytest.mark.parametrize('questions, evidence', [(questions, evidence), (questions_2026, evidence_2026)], ids=['2025', '2026'])


def plain(text): return re.sub(r'[^a-z0-9]+', '', re.sub(r'-\s*\n\s*', '', text).lower())


def test_enough_of_everything():
    assert len(bibliography) >= 12 and len(questions) >= 60
    assert sum(q.is_na for q in questions.values()) >= 8
    for flag in ('Quote', 'Table', 'Figure', 'Math'): assert sum(q.flags[flag] for q in questions.values()) >= 5, flag
    assert {q.usage for q in questions.values()} == {'Public', 'Private'}
    kinds = {q.kind for q in questions.values()}
    assert kinds == {'number', 'text', 'true_false'} and any(q.answer_value.startswith('[') for q in questions.values())


def test_enough_of_what_is_new_in_2026():
    qs = list(questions_2026.values())
    assert {q.task.name for q in qs} == {'wattbot2026'} and not {q.question for q in qs} & {q.question for q in questions.values()} - {parking}
    for flag, n in dict(CrossPaper=10, Reconcile=6, Figure=8, Math=10, is_NA=4).items(): assert sum(q.flags[flag] for q in qs) >= n, flag
    assert sum(read_band(q.answer_value) is not None for q in qs) >= 3 and sum(q.answer_value[:1] == '(' for q in qs) >= 6 # lists and ranges
    assert all(q.flags['CrossPaper'] == (len(q.refs) > 1) for q in qs)


parking = 'How much electricity per year was saved by parking boards at Mizu?' # in kWh, where the paper and the other file have MWh


@pytest.mark.parametrize('id_', list(bibliography))
def test_paper_is_a_short_pdf(id_):
    pages = len(pypdf.PdfReader(data / f'pdfs/{id_}.pdf').pages)
    assert 2 <= pages <= 6
    assert f'!data/pdfs/{id_}.pdf' in (root / '.gitignore').read_text().split()


@pytest.mark.parametrize('name', ['demo_QA.csv', 'demo2026_QA.csv'])
def test_question_file_has_no_faults(name):
    faults = [f for f in check_questions(data / name, bibliography) if f['severity'] == 'error']
    assert not faults, faults


@both_files
def test_flags_agree_with_values(questions, evidence):
    for q in questions.values():
        assert q.flags['is_NA'] == is_blank(q.answer_value)
        assert set(parse_refs(q.ref_id)) <= set(bibliography)
        if q.kind == 'true_false': assert q.answer_value in '01' and is_blank(q.answer_unit)


GIVEN = ('24', '100', '1000', '640000', '0.15') # factors between units, 640 MWh in kWh, the part of a PUE above 1


@both_files
def test_sums_are_right(questions, evidence):
    "The truth is the formula's value, and each number in it is in the evidence or converts a unit."
    maths = [q for q in questions.values() if q.flags['Math']]
    for q in maths:
        formula = q.explanation.split(': ')[1]
        assert re.fullmatch(r'[\d.\s*+/()-]+', formula) and score_value(q.answer_value, str(eval(formula)), q.task.values), q.id
        shown = ' '.join(e['evidence'].replace(',', '') for e in evidence if e['id'] == q.id)
        for x in re.findall(r'[\d.]+', formula): assert re.search(rf'(?<![\d.]){re.escape(x)}(?![\d]|\.\d)', shown) or x in GIVEN, (q.id, x)


@pytest.fixture(scope='session')
def parsed(): return {id_: parse_pdf(data / f'pdfs/{id_}.pdf', id_) for id_ in bibliography}


@both_files
def test_every_answer_is_proven_on_its_page(parsed, questions, evidence):
    "In the words of the PDF, and in the document that the parser makes of it; each cited paper gives a part."
    proven = set()
    for e in evidence:
        if e['kind'] == 'bar': proven.add(e['id']); continue # see below
        text = e['evidence'].split(' | ')[-1] if e['kind'] == 'cell' else e['evidence']
        page = pypdf.PdfReader(data / f"pdfs/{e['document_id']}.pdf").pages[int(e['page']) - 1].extract_text()
        assert plain(text) in plain(page), e
        doc = parsed[e['document_id']]
        assert plain(text) in plain(' '.join(p.text for p in doc.paragraphs)), f'lost by the parser: {e}'
        proven.add(e['id'])
    assert proven == {q.id for q in questions.values() if not q.is_na}
    for q in questions.values(): assert set(q.refs) == {e['document_id'] for e in evidence if e['id'] == q.id}, q.id


def bars_of(lines):
    "label -> value of the figures on a page, which prints the values of all bars, their labels, and an axis that begins at 0."
    number, out = re.compile(r'[\d,.]+'), {}
    for i in reversed(range(len(lines))): # the longest run counts, where labels are numbers too
        for n in range(2, 9):
            if all(number.fullmatch(l) for l in lines[i:i + n]) and lines[i + 2 * n:i + 2 * n + 1] == ['0']: out |= zip(lines[i + n:i + 2 * n], lines[i:i + n])
    return out


def test_bars_have_their_printed_values():
    bars = [e for e in evidence_2026 if e['kind'] == 'bar']
    assert len(bars) >= 15
    for e in bars:
        caption, label, value = e['evidence'].split(' | ')
        text = pypdf.PdfReader(data / f"pdfs/{e['document_id']}.pdf").pages[int(e['page']) - 1].extract_text()
        assert plain(caption) in plain(text) and bars_of([l.strip() for l in text.split('\n')])[label] == value, e


@both_files
def test_table_rows_stay_together(parsed, questions, evidence):
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
