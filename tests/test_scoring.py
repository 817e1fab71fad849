"""The scorer on anything: total, bounded, symmetric where it should be, and bit-exact on recorded runs."""
import csv, json, math, random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from wattnb.core.questions import Question, parse_refs
from wattnb.scoring.scores import METRICS, Metric, metric_rows, score, score_files
from wattnb.scoring.judging import DIAGNOSES, diagnose, read_quantity
from wattnb.scoring.answers import Prediction, check_questions
from wattnb.scoring.wattbot_score import normalise_value, score_refs, score_value
from wattnb.scoring.statistics import bootstrap_ci, clopper_pearson, wilson
from wattnb.core.workspace import UserError, jsonable

SHARED = next((p / 'shared/wattbot' for p in Path(__file__).resolve().parents if (p / 'shared/wattbot').is_dir()), None)
needs_shared = pytest.mark.skipif(SHARED is None, reason='recorded runs are not on this machine')

PIECES = ['1', '2', '80', '90', '.', '-', '–', '—', ' ', ',', 'e', 'E', '+', '[', ']', '{', '}', '"', "'", 'to', 'from ', 'about ', '~', '≈', '>', '<', 'up to ', 'more  than ', 'K', 'm', 'B', 't',
          '\u212a', '%', '$', 'true', 'No', 'nan', 'inf', '1e400', '-inf', 'is_blank', 'NA', 'n/a', 'a', 'b', '٣', 'null', '\n', '\t', '\u00a0', '1_000', '9' * 400, '0x1', '\x00', '[[', '\\', 'İ', '=cmd|calc!A0',
          'Unable to answer with confidence based on the provided documents', '13,900', '\ud800']


def pieces(rng):
    s = ''.join(rng.choice(PIECES) for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 3, 4, 5, 8])))
    return f'[{s}]' if rng.random() < .3 else '{' + s + '}' if rng.random() < .05 else s


def test_total_on_100_000_random_pairs():
    rng = random.Random(7)
    for _ in range(100_000):
        t, p = pieces(rng), pieces(rng)
        assert score_value(t, p) in (True, False)
        assert 0 <= score_refs(t, p) <= 1 and score_refs(t, p) == score_refs(p, t)


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=400)
def test_any_text(t, p):
    assert score_value(t, p) in (True, False) and isinstance(normalise_value(p), str)
    assert score_refs(t, p) == score_refs(p, t) and score_refs(t, t) == 1
    row = score([Question('q', '?', answer_value='1', ref_id=t)], [Prediction('q', '1', p)]).rows[0] # ids inside, the cells for the score and in files
    assert row['ref_score'] == score_refs(t, p) and row['refs'] == tuple(parse_refs(p)) and [jsonable(row[k]) for k in ('truth_refs', 'refs')] == [t, p]
    assert diagnose(t, p, 'kWh') in DIAGNOSES
    q = read_quantity(p)
    assert q is None or math.isfinite(q[0])


@given(st.lists(st.tuples(st.text(alphabet='01[],.-e a_isblnk', max_size=8), st.text(alphabet='01[],.-e a_isblnk', max_size=8), st.sampled_from(['', 'answered', 'abstained', 'unparsed', 'failed']), st.booleans()), min_size=1, max_size=12))
@settings(max_examples=200)
def test_scores_are_bounded_and_coherent(cells):
    qs = [Question(f'q{i}', '?', answer_value=t.strip() and t or '1', ref_id="['a']", flags={'Quote': f}) for i, (t, _, _, f) in enumerate(cells)]
    s = score(qs, [Prediction(f'q{i}', p, '["a"]', status) for i, (_, p, status, _) in enumerate(cells)])
    for k in ('overall', 'value_accuracy', 'ref_overlap', 'na_recall'):
        v, ci = getattr(s, k), s.ci[k]
        assert 0 <= v <= 1 + 1e-12 and (ci is None or ci[0] - 1e-9 <= v <= ci[1] + 1e-9)
    assert 0 <= s.strict['overall'] <= 1 + 1e-12
    assert abs(sum(s.contributions()) / s.n - s.overall) < 1e-12 and abs(sum(s.contributions(True)) / s.n - s.strict['overall']) < 1e-12
    assert s.strict['answered'] + s.strict['abstained'] + s.strict['unparsed'] + s.strict['failed'] + s.strict['missing'] == s.n
    json.dumps(s.to_json(strict=True), allow_nan=False)


@pytest.mark.parametrize('text', ['nan', 'inf', '-inf', '1e400', 'Infinity', 'NaN', '9' * 5000, '1-' + '9' * 400, '9' * 400 + 'T', '[nan, nan]', '[1e400, 1]', '[' * 5000 + ']' * 5000, '-' * 50_000, '{' * 999])
def test_extremes_do_not_crash(text):
    for t in ('5', '[1,2]', 'is_blank', text): assert score_value(t, text) in (True, False); assert diagnose(t, text) in DIAGNOSES; assert score_value(text, t) in (True, False)


def test_nan_follows_float():
    assert not score_value('nan', 'nan') and score_value('inf', '1e999') and not score_value('[1,2]', 'nan')


# ---- files --------------------------------------------------------------------------------------------------------

def write(path, columns, rows, **kw):
    with open(path, 'w', newline='', encoding=kw.pop('encoding', 'utf-8')) as f:
        w = csv.writer(f, **kw); w.writerow(columns); w.writerows(rows)
    return path


TRUTH = (['id', 'question', 'answer_value', 'answer_unit', 'ref_id'], [['q1', 'a?', '24', 'MWh', "['a']"], ['q2', 'b?', 'is_blank', 'is_blank', 'is_blank'], ['q3', 'c?', 'NA model', 'is_blank', "['a', 'b']"]])
SUB = ['id', 'answer_value', 'answer_unit', 'ref_id', 'explanation']


def test_quoting_bom_newlines_and_column_order_do_not_matter(tmp_path):
    t = write(tmp_path / 't.csv', *TRUTH)
    rows = [['q1', '24', 'MWh', '["a"]', 'a "quoted"\nline, with = and ;'], ['q2', 'NA', '', '["is_blank"]', '=cmd|calc!A0'], ['q3', 'na model', '', "['b','a']", 'é']]
    want = None
    for i, kw in enumerate([{}, dict(quoting=csv.QUOTE_ALL), dict(encoding='utf-8-sig'), dict(lineterminator='\n'), dict(encoding='cp1252', quoting=csv.QUOTE_ALL)]):
        s = score_files(t, write(tmp_path / f's{i}.csv', SUB, rows, **kw))
        kinds = [p['kind'] for p in s.problems]
        assert kinds == (['encoding'] if kw.get('encoding') == 'cp1252' else []) # another encoding is reported
        want = want or s.to_json()
        assert {**s.to_json(), 'problems': []} == want and s.overall == 1
    assert score_files(t, write(tmp_path / 'r.csv', SUB[::-1], [r[::-1] for r in rows])).overall == 1


def test_words_that_pandas_would_lose_stay_text(tmp_path):
    t = write(tmp_path / 't.csv', TRUTH[0], [['q1', '?', 'None', '', "['a']"], ['q2', '?', 'null', '', "['a']"], ['q3', '?', '007', '', "['a']"], ['q4', '?', '1e3', '', "['a']"]])
    assert score_files(t, write(tmp_path / 's.csv', SUB, [['q1', 'none', '', "['a']", 'x'], ['q2', 'NULL', '', "['a']", 'x'], ['q3', '7', '', "['a']", 'x'], ['q4', '1000', '', "['a']", 'x']])).value_accuracy == 1


def test_a_megabyte_cell(tmp_path):
    t = write(tmp_path / 't.csv', *TRUTH)
    s = score_files(t, write(tmp_path / 's.csv', SUB, [['q1', '9' * 1_000_000, '', '["a"]', 'x' * 1_000_000], ['q2', 'is_blank', '', '[' * 1_000_000, 'x'], ['q3', ',' * 1_000_000, '', 'a' * 1_000_000, 'x']]))
    assert s.questions_correct == 1


@pytest.mark.parametrize('raw, why', [(b'', 'empty'), (b'\x00\x01\x02' * 9, 'NUL'), (b'a,b\n1,2\n', 'no column id'), (b'id,answer_value,ref_id\nq1,1,a,extra\n', '4 cells'), (b'id,id,answer_value,ref_id\n', 'twice'),
                                      (b'id,answer_value,ref_id\nzz,1,a\n', 'no id in common')])
def test_bad_submissions_are_reported_in_one_line(tmp_path, raw, why):
    t = write(tmp_path / 't.csv', *TRUTH)
    (tmp_path / 's.csv').write_bytes(raw)
    with pytest.raises(UserError, match=why) as e: score_files(t, tmp_path / 's.csv')
    assert '\n' not in str(e.value)


def test_random_bytes_never_crash(tmp_path):
    t, rng = write(tmp_path / 't.csv', *TRUTH), random.Random(3)
    good = b'id,answer_value,ref_id,explanation\r\nq1,24,"[""a""]",x\r\nq2,is_blank,is_blank,y\r\nq3,NA model,"[""a"",""b""]",z\r\n'
    for _ in range(300):
        b = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            k = rng.randrange(len(b))
            b[k:k + rng.randint(0, 3)] = bytes(rng.randrange(256) for _ in range(rng.randint(0, 3)))
        (tmp_path / 's.csv').write_bytes(bytes(b))
        try: s = score_files(t, tmp_path / 's.csv')
        except UserError: continue
        assert s.n == 3 and 0 <= s.overall <= 1


def test_missing_doubled_and_unknown(tmp_path):
    t = write(tmp_path / 't.csv', *TRUTH)
    p = write(tmp_path / 's.csv', SUB, [['q1', '24', '', '["a"]', 'x'], ['q1', '24', '', '["a"]', 'x'], ['q9', '1', '', '', ''], ['q3', 'NA model', '', '["a","b"]', '']])
    s = score_files(t, p)
    assert {x['kind'] for x in s.problems} == {'duplicate_prediction', 'missing_prediction', 'unknown_id', 'empty_explanation'}
    assert s.questions_correct == 1 and s.na_recall == 0 and s.n == 3
    old = score_files(t, p, legacy_join=True) # q1 twice, q3 once; no unanswerable question left
    assert old.n == 3 and old.na_recall == 1 and old.overall == 1


# ---- the registry of metrics ----------------------------------------------------------------------------------------

def test_a_metric_declared_once_appears_in_text_json_table_and_comparison(tmp_path, capsys):
    from wattnb.cli.command import main
    METRICS.append(Metric('cites_one', 'cites one paper', lambda r: str(r['refs']).count('"') == 2, column='one paper'))
    try:
        t = write(tmp_path / 't.csv', *TRUTH)
        p = write(tmp_path / 's.csv', SUB, [['q1', '24', '', '["a"]', 'x'], ['q2', 'is_blank', '', '["is_blank"]', 'x'], ['q3', 'NA model', '', '["a","b"]', 'x']])
        s = score_files(t, p)
        assert s.strict['cites_one'] == pytest.approx(2 / 3) and s.strict['ci']['cites_one'] == wilson(2, 3) and s.compared['one paper'] == pytest.approx(2 / 3)
        assert ('strict cites one paper', s.strict['cites_one'], *wilson(2, 3)) in metric_rows(json.loads(json.dumps(s.to_json(strict=True))))
        assert main(['score', str(t), str(p), '--strict']) == 0 and 'strict cites one paper' in capsys.readouterr().out
        assert main(['score', str(t), str(p), '--strict', '--json']) == 0 and json.loads(capsys.readouterr().out)['strict']['cites_one'] == pytest.approx(2 / 3)
    finally: METRICS.pop()


# ---- recorded runs ------------------------------------------------------------------------------------------------

@needs_shared
def test_recorded_runs_score_as_expected():
    for name, want in json.loads((SHARED / 'recorded/expected_scores.json').read_text()).items():
        s = score_files(SHARED / 'data/train_QA.csv', SHARED / f'recorded/PowerEdge/train_QA/{name}/submission.csv')
        for k, v in want.items(): assert abs(getattr(s, k) - v) < 1e-9, (name, k)


@needs_shared
def test_question_file_has_no_errors():
    ids = [r['id'] for r in csv.DictReader((SHARED / 'data/metadata.csv').read_text(encoding='cp1252').splitlines())]
    assert not [r for r in check_questions(SHARED / 'data/train_QA.csv', ids) if r['severity'] == 'error']


def test_every_kind_of_fault_of_a_question_file_is_found(tmp_path):
    columns = ['id', 'question', 'answer', 'answer_value', 'answer_unit', 'ref_id', 'ref_url', 'Usage', 'Quote', 'is_NA']
    good = dict(id='q1', question='How much?', answer='5 W', answer_value='5', answer_unit='W', ref_id="['a']", ref_url="['https://arxiv.org/pdf/1']", Usage='Public', Quote='1', is_NA='0')
    faults = {'odd_range': dict(answer_value='[1,200,3]'), 'unreachable': dict(answer_value='13,900'), 'unknown_paper': dict(ref_id="['zz']"), 'bare_id': dict(ref_id='a'), 'uncited': dict(ref_id='is_blank'),
              'unreadable_list': dict(ref_id='[a, b]'), 'true_false': dict(question='True or False: it is so.', answer_value='True', answer_unit='is_blank'), 'true_false_unit': dict(question='True or False: it is so.', answer_value='1'),
              'double_question': dict(question='HOW  much?'), 'empty_truth': dict(answer_value=''), 'landing_page': dict(ref_url="['https://arxiv.org/abs/1']"), 'not_a_url': dict(ref_url="['x']"), 'url_count': dict(ref_url="['https://a.b/1', 'https://a.b/2']"),
              'reversed_range': dict(answer_value='[9,1]'), 'flag_value': dict(Quote='x'), 'flag_contradicts': dict(is_NA='1'), 'usage_value': dict(Usage='Secret'), 'no_unit': dict(answer_unit=''), 'no_evidence': dict(Quote='0'),
              'refusal_with_value': dict(answer='Unable to answer with confidence based on the provided documents.'), 'cited_blank': dict(answer_value='is_blank', is_NA='1'), 'empty_question': dict(question=''), 'empty_id': dict(id='')}
    for rule, change in faults.items():
        rows = [good, {**good, 'id': 'q2', 'question': 'How many?', **change}]
        t = check_questions(write(tmp_path / 'q.csv', columns, [[r[c] for c in columns] for r in rows]), ['a', 'b'])
        assert rule in {r['rule'] for r in t}, (rule, [r['rule'] for r in t])
    assert not check_questions(write(tmp_path / 'q.csv', columns, [list(good.values())]), ['a'])

    class Paper: url = 'http://www.arxiv.org/abs/1v2'
    t = check_questions(tmp_path / 'q.csv', dict(a=Paper))
    assert not len(t) # the same paper, whichever page of it
    Paper.url = 'https://arxiv.org/pdf/2'
    assert [r['rule'] for r in check_questions(tmp_path / 'q.csv', dict(a=Paper))] == ['other_url']


def test_interval_by_paper_is_wider_where_papers_decide():
    qs = [Question(f'q{i}', '?', answer_value=str(i + 1), ref_id=f"['p{i % 8}']") for i in range(160)]
    s = score(qs, [Prediction(q.id, q.answer_value if i % 8 < 5 else '-1', q.ref_id) for i, q in enumerate(qs)])
    boot = lambda clusters=None: bootstrap_ci(s.contributions(), [r['is_na'] for r in s.rows], clusters)
    (lo, hi), (wide_lo, wide_hi) = boot(), boot(s.papers)
    assert wide_hi - wide_lo > 2 * (hi - lo)
    independent = replace(s, clusters='none')
    assert lo < s.overall < hi and abs((hi - lo) - (independent.ci['overall'][1] - independent.ci['overall'][0])) < .03
    # what is printed is by paper: overall, shares, means, groups and the strict score
    assert s.design.clusters == 8 and s.design.icc == pytest.approx(1) and s.design.effect > 19
    spread = lambda x, k: x.ci[k][1] - x.ci[k][0]
    for k in ('overall', 'value_accuracy'): assert spread(s, k) > 3 * spread(independent, k)
    assert s.strict['ci']['overall'][1] - s.strict['ci']['overall'][0] > 3 * (independent.strict['ci']['overall'][1] - independent.strict['ci']['overall'][0])
    assert 'ICC 1.00' in s.table().to_text() and '8 papers' in s.table().to_text() and s.to_json()['clusters']['unit'] == 'paper' and independent.to_json()['clusters']['unit'] == 'question'


def test_intervals_are_named_and_refusals_have_exact_ones():
    "Recall and precision of refusals are Clopper-Pearson (they rest on a handful), and a note of the table describes each interval."
    qs = [Question(f'q{i}', '?', answer_value='is_blank' if i < 2 else str(i), ref_id='is_blank' if i < 2 else f"['p{i}']") for i in range(40)]
    s = score(qs, [Prediction(q.id, 'is_blank' if i < 3 else q.answer_value, q.ref_id) for i, q in enumerate(qs)])
    assert s.ci['na_recall'] == clopper_pearson(2, 2) == s.strict['ci']['na_recall'] and s.strict['ci']['na_precision'] == clopper_pearson(2, 3)
    assert s.papers is None and s.ci['value_accuracy'] == wilson(s.questions_correct, 40)
    for name in ('Wilson', 'Clopper-Pearson'): assert name in s.table().to_text()


def test_an_unanswerable_question_without_a_record_is_worth_nothing():
    "Its contribution lies below the smallest that an answered one can have; the interval still holds the score."
    qs = [Question(f'q{i}', '?', answer_value='is_blank' if i % 4 == 0 else str(i), ref_id='is_blank' if i % 4 == 0 else f"['p{i}']") for i in range(40)]
    s = score(qs, [Prediction(q.id, q.answer_value, q.ref_id) for q in qs if not q.is_na])
    assert s.ci['overall'][0] <= s.overall <= s.ci['overall'][1]
