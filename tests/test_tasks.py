"WattBot 2026 and tasks of one's own: rules as data, equal to an independent scorer row by row, and never mixed with those of 2025."
import json, random, re, subprocess, sys
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from conftest import words_workspace
from wattnb.core.questions import TASKS, WATTBOT2025, Question, read_questions
from wattnb.core.workspace import UserError, read_csv, read_json, write_csv
from wattnb.experiment.execute import run_all
from wattnb.experiment.journal import read_journal
from wattnb.experiment.plan import plan_run
from wattnb.experiment.run_files import derive
from wattnb.experiment.settings import RunSettings
from wattnb.scoring.answers import read_predictions, read_truth
from wattnb.scoring.official_scorer import run_scorer
from wattnb.scoring.scores import score, score_files
from wattnb.scoring.wattbot_score import score_refs, score_value

NEW = TASKS['wattbot2026']
COLUMNS = ['id', 'question', 'answer', 'answer_value', 'answer_unit', 'ref_id', 'ref_url', 'supporting_materials', 'explanation',
           'Quote', 'Table', 'Figure', 'Math', 'CrossPaper', 'Reconcile', 'is_NA']

# A scorer of the competition's form, written from its rules and without our code.
SCORER = r'''
import math, re, string

def number(s):
    s = str(s).strip().replace(',', '')
    try: return float(s)
    except ValueError: return None

def close(a, b): return abs(a - b) <= max(.001, .001 * max(abs(a), abs(b)))

def term(s):
    s = ''.join(c for c in str(s).lower() if c not in string.punctuation)
    s = ' '.join(s.split())
    return re.sub(r'^(the|an|a) ', '', s)

def same(a, b):
    x, y = number(a), number(b)
    return close(x, y) if x is not None and y is not None else term(a) == term(b)

def value(gold, given):
    gold, given = gold.strip(), given.strip()
    if gold == 'is_blank': return True
    if gold[:1] == '[':
        low, high = (float(x) for x in gold[1:-1].split(','))
        x = number(given)
        return x is not None and (low <= x <= high or close(x, low) or close(x, high))
    if gold[:1] == '(':
        if given[:1] != '(': return False
        left = [x.strip() for x in given[1:-1].split(',')]
        for x in gold[1:-1].split(','):
            hit = [y for y in left if same(x, y)]
            if not hit: return False
            left.remove(hit[0])
        return not left
    return given[:1] != '(' and same(gold, given)

def ids(cell): return set(re.findall(r"[^\s\[\]'\",]+", cell.lower())) - {'is_blank'}

def f1(a, b): return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.

BLANK = ('answer_value', 'ref_id', 'ref_url', 'supporting_materials')

def score(solution, submission, row_id_column_name):
    given = {r[row_id_column_name]: r for r in submission.to_dict('records')}
    rows = solution.to_dict('records')
    pairs = [(r, given[r[row_id_column_name]]) for r in rows]
    v = sum(value(g['answer_value'], s['answer_value']) for g, s in pairs) / len(pairs)
    c = sum(f1(ids(g['ref_id']), ids(s['ref_id'])) for g, s in pairs) / len(pairs)
    na = [all(s[k] == 'is_blank' for k in BLANK) for g, s in pairs if g['answer_value'] == 'is_blank']
    return .75 * v + .20 * c + .05 * (sum(na) / len(na) if na else 1.)
'''

GOLD = ['24', '13,900', '0.0005', '-3.5', '1e6', '[26.1,27.9]', '[-2, -1]', '(29,49)', '(GPT-4, the A100, B200)', '(1, 1)', 'carbon intensity', 'The ML.ENERGY benchmark',
        'a and b', 'is_blank', '1']


def question_row(i, value, rng):
    na = value == 'is_blank'
    refs = 'is_blank' if na else json.dumps(rng.sample(['a2021', 'b2022', 'c2023'], rng.randint(1, 3)))
    return dict(id=f'q{i}', question=f'Question {i}?', answer='', answer_value=value, answer_unit='kWh', ref_id=refs, ref_url='is_blank', supporting_materials='is_blank',
                explanation='x', **dict.fromkeys(COLUMNS[9:], '0')) | dict(is_NA=str(int(na)), CrossPaper=str(i % 2))


def submitted(row, rng):
    "An answer of one of the kinds that people submit: right, near, wrong, in another spelling, refused, refused with a paper left."
    v = row['answer_value']
    if rng.random() < .3: return row | dict.fromkeys(('answer_value', 'ref_id', 'ref_url', 'supporting_materials'), 'is_blank') # a whole refusal
    value = rng.choice([v, v, 'is_blank', '27', f'the {v}'.upper(), '29', '(49, 29)', '(49,29)', '(b200, a100, gpt4)', '24.01', '24.5', '13900', '(1, 1)', '1', 'x', '(a, b)'])
    refs = rng.choice([row['ref_id'], '["a2021"]', '["b2022", "z2020"]', 'is_blank'])
    url, material = rng.choice([('is_blank', 'is_blank'), ('is_blank', 'is_blank'), ('["https://x.org/a"]', 'is_blank'), ('is_blank', 'Table 2')])
    return row | dict(answer_value=value, ref_id=refs, ref_url=url, supporting_materials=material)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    d = tmp_path_factory.mktemp('task')
    (d / 'Score.py').write_text(SCORER)
    return d


@pytest.mark.parametrize('seed', range(4))
def test_equal_to_an_independent_scorer_row_by_row(folder, seed):
    rng = random.Random(seed)
    rows = [question_row(i, GOLD[i % len(GOLD)], rng) for i in range(60)]
    write_csv(folder / 'truth.csv', COLUMNS, rows)
    write_csv(folder / 'sub.csv', COLUMNS, [submitted(r, rng) for r in rows])
    ours, official = score_files(folder / 'truth.csv', folder / 'sub.csv'), run_scorer(folder / 'Score.py', folder / 'truth.csv', folder / 'sub.csv')
    assert ours.task == NEW and abs(ours.overall - official.score) < 1e-12
    assert official.differences(ours) == [] and None not in official.rows.values()
    assert .1 < ours.value_accuracy < .9 and ours.na_recall <= 1


def test_a_misread_rule_is_named(folder):
    "The command runs the scorer and names the row and the component."
    rng = random.Random(1)
    rows = [question_row(i, v, rng) for i, v in enumerate(GOLD)]
    write_csv(folder / 'truth.csv', COLUMNS, rows)
    write_csv(folder / 'sub.csv', COLUMNS, rows)
    (folder / 'other.py').write_text(SCORER.replace("if given[:1] != '(': return False", "return False"))
    p = subprocess.run([sys.executable, '-m', 'wattnb.cli', 'score', 'truth.csv', 'sub.csv', '--scorer', 'other.py', '--json'], cwd=folder, capture_output=True, text=True)
    found = json.loads(p.stdout)['official']
    assert {(x['id'], x['differs_in']) for x in found['differences']} == {(f'q{i}', 'value') for i, v in enumerate(GOLD) if v[:1] == '('} and len(found['sha256']) == 64
    p = subprocess.run([sys.executable, '-m', 'wattnb.cli', 'score', 'truth.csv', 'sub.csv', '--scorer', 'gone.py'], cwd=folder, capture_output=True, text=True)
    assert p.returncode == 2 and p.stderr.strip().splitlines()[-1].endswith('no such scorer: gone.py')


words = st.text('abcdefgh -.', min_size=1, max_size=12).filter(lambda s: any(c.isalpha() for c in s))
numbers = st.one_of(st.integers(-10**6, 10**6), st.floats(-1e6, 1e6, allow_nan=False)).map(str)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(words, numbers), min_size=2, max_size=5), st.randoms(), st.sampled_from([', ', ',', ' , ']))
def test_lists_hold_in_any_order_case_and_spacing(items, rng, comma):
    truth = f"({', '.join(items)})"
    shuffled = [x.upper() if rng.random() < .5 else x for x in items] # no space after a comma in (1,234, 5): it would be 1,234
    rng.shuffle(shuffled)
    assert score_value(truth, f'({comma.join(shuffled)})', 'wattbot2026')
    assert not score_value(truth, f'({", ".join(items[1:] or items)})', 'wattbot2026')
    assert not score_value(truth, f'({", ".join([*items, "one more"])})', 'wattbot2026')


@settings(max_examples=150, deadline=None)
@given(words.filter(lambda s: not re.match(r'\W*(an?|the)\b', s)))
def test_terms_hold_without_case_punctuation_article_and_unicode_forms(term):
    full_width = ''.join(chr(ord(c) + 0xfee0) if '!' <= c <= '~' else c for c in term)
    for spelled in (term.upper(), f'  the {term}. ', f'“{term}”', full_width): assert score_value(term, spelled, 'wattbot2026'), spelled
    assert not score_value(term, term + ' zz', 'wattbot2026')


@settings(max_examples=150, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1))
def test_a_band_takes_every_number_inside_it_and_nothing_else(a, b, t):
    low, high = sorted((a, b))
    truth = f'[{low!r}, {high!r}]'
    assert score_value(truth, repr(low + t * (high - low)), 'wattbot2026')
    width = max(1., abs(low), abs(high)) * .01
    for x in (low - width, high + width): assert not score_value(truth, repr(x), 'wattbot2026')
    assert not score_value(truth, truth, 'wattbot2026') and not score_value(truth, '', 'wattbot2026')


@settings(max_examples=100, deadline=None)
@given(st.sets(st.sampled_from('abcde')), st.sets(st.sampled_from('abcde')))
def test_citations_are_f1(gold, cited):
    cell = lambda s: json.dumps(sorted(s)) if s else 'is_blank'
    f1 = 2 * len(gold & cited) / (len(gold) + len(cited)) if gold or cited else 1.
    assert score_refs(cell(gold), cell(cited), 'f1') == pytest.approx(f1)


@pytest.fixture(scope='module')
def ws(tmp_path_factory):
    w = words_workspace(tmp_path_factory.mktemp('ws'))
    rows = read_csv(w.data / 'demo_QA.csv').rows
    write_csv(w.data / 'new_QA.csv', COLUMNS, [dict.fromkeys(COLUMNS, '0') | {k: r[k] for k in COLUMNS if k in r} for r in rows[:20]])
    return w


def test_a_run_is_scored_by_the_task_of_its_file(ws):
    plan = plan_run(RunSettings(model='extractive', questions='data/new_QA.csv', preset='words'), ws)
    files = run_all(plan)
    summary, head = files.summary, json.loads((plan.run_dir / 'journal.jsonl').read_text().splitlines()[0])
    assert summary['scores']['task']['name'] == 'wattbot2026' and head['data']['task']['citations'] == 'f1'
    by_file = score(read_truth(ws.data / 'new_QA.csv'), read_predictions(plan.run_dir / 'submission.csv'))
    assert summary['overall_score'] == pytest.approx(by_file.overall) and by_file.task == NEW
    assert plan.identity['scorer'].startswith('wattbot2026-1:')
    old = plan_run(RunSettings(model='extractive', preset='words'), ws)
    assert old.identity['scorer'] == 'wattbot-1' and 'task' not in run_all(old).summary['scores']


def test_a_change_of_the_task_is_another_run(ws):
    "The journal keeps its task: stored scores stay; the request with other rules is refused in the same folder."
    s = RunSettings(model='abstain', questions='data/new_QA.csv', preset='words')
    plan = plan_run(s, ws)
    stored, folder = run_all(plan).summary['overall_score'], plan.run_dir
    (ws.root / 'wattnb.toml').write_text('[task]\nbase = "wattbot2026"\nvalue = 0.6\nref = 0.4\nna = 0.0\n')
    try:
        with pytest.raises(UserError, match='holds another run .*scorer'): plan_run(s, ws)
        assert derive(read_journal(folder / 'journal.jsonl')).summary['overall_score'] == stored == read_json(folder / 'summary.json')['overall_score']
        own = run_all(plan_run(replace(s, name='own'), ws)).summary
        assert own['scores']['task']['value'] == .6 and own['scores']['task']['name'] == 'own (wattbot2026)'
    finally: (ws.root / 'wattnb.toml').unlink()


def test_2025_is_what_it_was(ws):
    "Without one of the new columns a file keeps the old rules, and its scores name no task."
    s = score_files(ws.data / 'demo_QA.csv', ws.data / 'demo_QA.csv')
    assert s.task == WATTBOT2025 and 'task' not in s.to_json() and s.to_json()['scorer_version'] == 'wattbot-1'
    assert read_questions(ws.data / 'demo_QA.csv').task == Question('q', 'x').task == WATTBOT2025


@pytest.fixture(scope='module')
def made(ws):
    "A run over the new questions."
    return run_all(plan_run(RunSettings(model='extractive', questions='data/new_QA.csv', preset='words', name='sub'), ws))


def test_a_run_becomes_a_submission_that_passes(ws, made):
    "Written, complete, idempotent; faults of a hand-made file are named by line, and such a file is never sent."
    command = lambda *a, **kw: subprocess.run([sys.executable, '-m', 'wattnb.cli', 'submit', *a, '--json', '--root', str(ws.root)], capture_output=True, text=True, **kw)
    p = command('sub')
    found = json.loads(p.stdout)
    assert p.returncode == 0 and found['passes'] and found['task'] == 'wattbot2026' and found['rows'] == 20, found['faults']
    path = ws.root / 'artifacts/submissions/new_QA/sub.csv'
    assert str(path) == found['file']
    rows = read_csv(path).rows
    assert all(r['supporting_materials'] != 'is_blank' and json.loads(r['ref_url']) for r in rows if r['answer_value'] != 'is_blank')
    assert all(r[c] == 'is_blank' for r in rows if r['answer_value'] == 'is_blank' for c in ('ref_id', 'ref_url', 'supporting_materials'))
    bad = ws.root / 'edited.csv'
    write_csv(bad, list(rows[0]), [rows[1] | dict(answer_value='~4'), *rows[2:], rows[2]])
    p = command(str(bad), '--questions', 'data/new_QA.csv', '--upload', 'some-competition')
    found = json.loads(p.stdout)
    assert p.returncode == 1 and not found['sent'] and {(f['line'], f['rule']) for f in found['faults']} >= {(2, 'forbidden'), (21, 'double'), (None, 'missing')}


def test_uploading_asks_for_the_client_and_for_a_file_that_passes(ws, made, tmp_path):
    "The client is a program on PATH; here one that prints its arguments, as the real one is not to be called."
    fake = tmp_path / 'kaggle'
    fake.write_text(f'#!{sys.executable}\nimport sys\nprint(sys.argv[1:])\n')
    fake.chmod(0o755)
    run = [sys.executable, '-m', 'wattnb.cli', 'submit', 'sub', '--root', str(ws.root), '--upload', 'wattbot-2026', '--message', 'first; rm -rf /']
    p = subprocess.run(run, capture_output=True, text=True, env={'PATH': str(tmp_path), 'PYTHONPATH': sys.path[0], 'HOME': str(tmp_path)})
    assert p.returncode == 0 and "'-c', 'wattbot-2026', '-f'" in p.stdout and "'first; rm -rf /'" in p.stdout, p.stderr
    p = subprocess.run(run, capture_output=True, text=True, env={'PATH': '', 'PYTHONPATH': sys.path[0], 'HOME': str(tmp_path)})
    assert p.returncode == 2 and 'needs the client of Kaggle' in p.stderr
