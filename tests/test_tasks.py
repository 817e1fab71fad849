"WattBot 2026 and a user's own tasks: rules as data, equal to an independent scorer row by row, and never mixed with those of 2025."
import ast, json, random, re, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings, strategies as st

import wattnb
from conftest import KEYS, Page, send, words_workspace
from wattnb.benchmark.plan import BenchmarkSettings, plan_benchmark
from wattnb.benchmark.scaling_study import _of_one_task
from wattnb.compare.auditing import audit
from wattnb.compare.paired import ScoredRun, compare, compare_scores
from wattnb.compare.results_matrix import matrix
from wattnb.cli.command import main
from wattnb.core.questions import TASKS, WATTBOT2025, Question, read_questions, read_task
from wattnb.core.units import UNITS, factor_between, unit_scale
from wattnb.core.workspace import UserError, read_csv, read_json, write_csv
from wattnb.ensemble.ensemble_runs import make_ensemble
from wattnb.ensemble.systems import read_runs
from wattnb.experiment.execute import run_all
from wattnb.experiment.journal import read_journal
from wattnb.experiment.plan import plan_run
from wattnb.experiment.run_files import derive
from wattnb.experiment.settings import RunSettings
from wattnb.experiment.stored import results_table
from wattnb.llm.parsing import parse_reply, read_value
from wattnb.llm.prompts import answer_form, prompt_digest
from wattnb.scoring.answers import Prediction, read_predictions, read_truth
from wattnb.scoring.official_scorer import run_scorer
from wattnb.scoring.run_folders import GroundTruth, find_run, score_run
from wattnb.scoring.scores import score, score_files
from wattnb.scoring.store import load
from wattnb.scoring.wattbot_score import VALUE_RULES, score_refs, score_value
from wattnb.testing.server import environment

NEW = TASKS['wattbot2026']
COLUMNS = ['id', 'question', 'answer', 'answer_value', 'answer_unit', 'ref_id', 'ref_url', 'supporting_materials', 'explanation',
           'Quote', 'Table', 'Figure', 'Math', 'CrossPaper', 'Reconcile', 'is_NA']

# A scorer of the competition's form, written from its rules and without our code.
SCORER = r'''
import math, re

def number(s):
    s = str(s).strip()
    return float(s.replace(',', '')) if re.fullmatch(r'[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d*)?(e[+-]?\d+)?', s, re.I) else None

def close(a, b): return abs(a - b) <= max(.001, .001 * max(abs(a), abs(b)))

def term(s):
    s = ' '.join(re.sub(r'[^\w\s]|_', '', str(s).lower()).split())
    return re.sub(r'^(the|an|a) ', '', s)

def same(a, b):
    x, y = number(a), number(b)
    if x is None and y is None: return term(a) == term(b)
    return None not in (x, y) and close(x, y)

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
    value = rng.choice([*[v] * 12, 'is_blank', '27', f'the {v}'.upper(), '29', '(49, 29)', '(49,29)', '(b200, a100, gpt4)', '24.01', '24.5', '13900', '(1, 1)', '1', 'x', '(a, b)', '[49, 29]', '29-49', '{29, 49}', 'a and b', 'The ML.ENERGY benchmark',
                        '2.4', '24%', '2.4%', '2/4', '2,4', '-24%', '"24"', '$24', '(24)', '(29%, 49%)', '(2.9, 49)', '1390.0', '1,39,00', f'{v}%', f'“{v}”'])
    refs = rng.choice([row['ref_id'], '["a2021"]', '["b2022", "z2020"]', 'is_blank', '[]'])
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
    (folder / 'none.py').write_text(SCORER.replace("all(s[k] == 'is_blank' for k in BLANK)", 'False')) # counts no refusal
    none = run_scorer(folder / 'none.py', folder / 'truth.csv', folder / 'sub.csv')
    assert [x[:2] for x in none.differences(score_files(folder / 'truth.csv', folder / 'sub.csv'))] == [(f'q{i}', 'refusal') for i, v in enumerate(GOLD) if v == 'is_blank']
    p = subprocess.run([sys.executable, '-m', 'wattnb.cli', 'score', 'truth.csv', 'sub.csv', '--scorer', 'gone.py'], cwd=folder, capture_output=True, text=True)
    assert p.returncode == 2 and p.stderr.strip().splitlines()[-1].endswith('no such scorer: gone.py')


words = st.text('abcdefgh -.', min_size=1, max_size=12).filter(lambda s: any(c.isalpha() for c in s))
numbers = st.one_of(st.integers(-10**6, 10**6), st.floats(-1e6, 1e6, allow_nan=False)).map(str)


@settings(max_examples=150)
@given(st.lists(st.one_of(words, numbers), min_size=2, max_size=5), st.randoms(), st.sampled_from([', ', ',', ' , ']))
def test_lists_hold_in_any_order_case_and_spacing(items, rng, comma):
    truth = f"({', '.join(items)})"
    shuffled = [x.upper() if rng.random() < .5 else x for x in items] # no space after a comma in (1,234, 5): it would be 1,234
    rng.shuffle(shuffled)
    assert score_value(truth, f'({comma.join(shuffled)})', 'wattbot2026')
    assert not score_value(truth, f'({", ".join(items[1:] or items)})', 'wattbot2026')
    assert not score_value(truth, f'({", ".join([*items, "one more"])})', 'wattbot2026')


@settings(max_examples=150)
@given(words.filter(lambda s: not re.match(r'\W*(an?|the)\b', s)))
def test_terms_hold_without_case_punctuation_article_and_unicode_forms(term):
    full_width = ''.join(chr(ord(c) + 0xfee0) if '!' <= c <= '~' else c for c in term)
    for spelled in (term.upper(), f'  the {term}. ', f'“{term}”', full_width): assert score_value(term, spelled, 'wattbot2026'), spelled
    assert not score_value(term, term + ' zz', 'wattbot2026')


@settings(max_examples=300)
@given(st.integers(-999, 999), st.integers(0, 3), st.text('0123456789.,%-+/$"\'()[]²½ e', min_size=1, max_size=7))
def test_signs_are_never_dropped_from_a_number(n, digits, sent):
    "Gold is a number: what is right is a number near to it; also in a list, also as gold, also with signs put into the gold itself."
    gold, near = f'{n / 10 ** digits:.{digits}f}', lambda s: re.fullmatch(r'\s*[+-]?(\d+|\d{1,3}(,\d{3})+)?(\.\d*)?(e[+-]?\d+)?\s*', s) and abs(float(s.replace(',', '')) - float(gold)) <= max(.001, .001001 * abs(float(gold)))
    for s in (sent, *(gold[:i] + c + gold[i:] for i in range(len(gold) + 1) for c in '%/,"$')):
        assert not score_value(gold, s, 'wattbot2026') or near(s), (gold, s)
        assert score_value(s, gold, 'wattbot2026') in (False, score_value(gold, s, 'wattbot2026')) or '[' in s or not s.strip(), (s, gold)
        if not set(s) & set(',()[]"\''): assert score_value(f'({gold}, x)', f'(x, {s})', 'wattbot2026') == score_value(gold, s, 'wattbot2026'), (gold, s)


@settings(max_examples=150)
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1))
def test_a_band_takes_every_number_inside_it_and_nothing_else(a, b, t):
    low, high = sorted((a, b))
    truth = f'[{low!r}, {high!r}]'
    assert score_value(truth, repr(low + t * (high - low)), 'wattbot2026')
    width = max(1., abs(low), abs(high)) * .01
    for x in (low - width, high + width): assert not score_value(truth, repr(x), 'wattbot2026')
    assert not score_value(truth, truth, 'wattbot2026') and not score_value(truth, '', 'wattbot2026')


@settings(max_examples=100)
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
    assert plan.identity['scorer'].startswith('wattbot2026-2:')
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


# --- one source of rules -------------------------------------------------------------------------------------------------

LIBRARY = Path(wattnb.__file__).parent


def constants(path):
    "The numbers and texts that a module of the library writes down."
    for n in ast.walk(ast.parse(path.read_text('utf-8'))):
        if isinstance(n, ast.Constant) and isinstance(n.value, (float, str)): yield n.value


ALSO = {('ensemble/systems.py', .75), ('scoring/run_folders.py', .9)} # a quantile; the share of ids from which a file is the one that was answered


def test_nothing_else_knows_a_weight():
    "No module but that of the tasks has a weight, as a number or in a sentence, or the name of a citation measure."
    found = []
    for path in sorted(LIBRARY.rglob('*.py')):
        name = str(path.relative_to(LIBRARY))
        if name in ('core/questions.py', 'cli/command.py'): continue # the latter has a price in a template
        for v in constants(path):
            if isinstance(v, str) and re.search(r'\b0?\.(?:75|15)\b|\b0\.10 ×|\b(?:75|15) %', v): found.append((name, v[:60]))
            judges = name.split('/')[0] in ('scoring', 'ensemble', 'compare', 'experiment', 'cli', 'legacy')
            if judges and v in (.75, .15, .9) and (name, v) not in ALSO: found.append((name, v))
            if isinstance(v, str) and 'jaccard' in v.lower() and name not in ('scoring/wattbot_score.py', 'scoring/scores.py', 'plots/reports.py', '_modidx.py'): found.append((name, v[:60]))
    assert found == []
    text = {p: p.read_text('utf-8') for p in LIBRARY.rglob('*.py')}
    assert [str(p) for p, t in text.items() if 'WATTBOT2025.weights' in t and p.name != 'wattbot_figures.py'] == []


def answers(n=40, seed=0, task=NEW, right=.7):
    "Questions of a task about eight papers, one in eight unanswerable, and somebody's answers to them."
    rng, qs, ps = random.Random(seed), [], []
    for i in range(n):
        na = i % 8 == 7
        qs.append(Question(f'q{i}', f'How much, {i}?', answer_value='is_blank' if na else str(i + 2), answer_unit='kWh', ref_id='is_blank' if na else f'["p{i % 8}", "p{(i + 1) % 8}"]', task=task))
        good = rng.random() < right
        ps.append(Prediction(f'q{i}', 'is_blank' if na == good else str(i + 2 if good else i + 99), 'is_blank' if na == good else f'["p{i % 8}"]'))
    return qs, ps


def test_comparisons_keep_the_task_of_their_runs():
    "Contributions, bounds and reordered runs use the weights of the task: the difference of two runs is that of their scores."
    for task in (NEW, replace(NEW, value=.5, ref=.2, na=.3, name='own')):
        (qs, a), (_, b) = answers(task=task, right=.9), answers(task=task, seed=1, right=.4)
        runs = [ScoredRun('a', score(qs, a)), ScoredRun('b', score(list(reversed(qs)), b))] # another order of the questions
        c = compare_scores(runs)
        assert c.pairs[0]['diff'] == pytest.approx(runs[0].scores.overall - runs[1].scores.overall) and c.pairs[0]['ci_low'] <= c.pairs[0]['diff'] <= c.pairs[0]['ci_high']
        assert c.to_json()['task']['name'] == task.name and c.to_json()['scorer_version'].startswith(task.name)
    old = ScoredRun('old', score(*answers(task=WATTBOT2025)))
    with pytest.raises(UserError, match='scores of several tasks cannot be compared: a, b by own; old by wattbot2025'): compare_scores([*runs, old])


@pytest.fixture(scope='module')
def both(ws):
    "Runs over the new questions by their own rules, and by those of 2025."
    made = {}
    for model in ('extractive', 'abstain'):
        for task in ('', 'wattbot2025'):
            plan = plan_run(RunSettings(model=model, questions='data/new_QA.csv', preset='words', task=task, env='both'), ws)
            made[model, task] = plan.name, run_all(plan), plan
    return made


def test_a_run_by_another_task(ws, both):
    "`--task` is part of the name, of the plan, the journal, the summary and the identity, only where it differs from the file's."
    (new, by_new, p), (old, by_old, q) = both['extractive', ''], both['extractive', 'wattbot2025']
    assert (new, old) == ('extractive-bench-words', 'extractive-bench-words-wattbot2025') and ('task', 'wattbot2025') in [tuple(r) for r in q.table.rows]
    assert {k for k in p.identity if p.identity[k] != q.identity.get(k)} == {'scorer', 'prompt', 'citations'} and q.identity['scorer'] == 'wattbot-1'
    assert by_new.summary['task'] == by_new.summary['scores']['task'] == NEW.to_json() and 'task' not in by_old.summary and by_old.summary['config_snapshot']['task'] == 'wattbot2025'
    same = plan_run(RunSettings(model='extractive', questions='data/new_QA.csv', preset='words', task='wattbot2026', env='both'), ws)
    assert (same.run_dir, same.state, same.identity) == (p.run_dir, 'complete', p.identity)
    truths = GroundTruth(ws)
    for name, task in ((new, NEW), (old, WATTBOT2025)):
        run = find_run(ws, f'both/new_QA/{name}')
        s = score_run(run, truths)
        assert s.task == truths.task(run) == task and s.overall == pytest.approx(run.summary['overall_score'], abs=1e-12)
    with pytest.raises(UserError, match='unknown task .wattbot2027.: one of wattbot2025'): plan_run(RunSettings(model='abstain', task='wattbot2027', preset='words'), ws)
    runs = plan_benchmark(BenchmarkSettings(('abstain',), questions='data/new_QA.csv', preset='words', task='generic', env='b'), ws)
    assert [r.name for r in runs] == ['abstain-bench-words-generic'] and runs[0].plan.questions.task.name == 'generic'
    demo = plan_run(RunSettings(model='abstain', preset='words', env='x'), ws)
    assert plan_run(RunSettings(model='abstain', preset='words', env='x', task='wattbot2025'), ws).run == demo.run and 'task' not in demo.settings.public


def test_scores_of_two_tasks_are_never_in_one_table(ws, both):
    place = dict(env='both', datafile='new_QA')
    t = results_table(ws, **place)
    assert [p.title for p in t.parts()] == ['Task wattbot2026', 'Task wattbot2025'] and all(len(p) == 2 and 'task' not in p.columns for p in t.parts())
    assert t.to_text().count('extractive-bench-words') >= 2 and t._repr_html_().count('<table') == 2 and {r['task'] for r in t.to_json()} == {'wattbot2025', 'wattbot2026'}
    assert len(results_table(ws, 'both', 'new_QA').numbers) == 4 and 'task' not in results_table(ws, datafile='demo_QA').columns
    names = [both[k][0] for k in both]
    for verb, args in ((compare, [names]), (make_ensemble, [names, 'mixed'])):
        with pytest.raises(UserError, match='several tasks cannot be compared: .*by wattbot2026; .*by wattbot2025'): verb(ws, *args, **place)
    m = matrix(ws, **place)
    assert [(p.task.name, len(p.models)) for p in m] == [('wattbot2025', 2), ('wattbot2026', 2)]
    files = m.write(ws.root / 'm.csv')
    assert len(set(files)) == 2 and {f.name.split('_')[-1] for f in files} == {'wattbot2025.csv', 'wattbot2026.csv'}
    tables = audit(ws, **place).by_task
    assert len(tables) == 2 and sorted(len(x) for x in tables) == [2, 2]
    assert {r.name for r in _of_one_task([find_run(ws, f'both/new_QA/{n}') for n in [*names, names[0]][:3]], GroundTruth(ws))} == {n for n in names[:3] if 'wattbot2025' not in n}
    assert set(load(ws, cache=False, **place).groupby('task', observed=True)['run'].nunique()) == {2}


def test_choices_and_figures_take_the_runs_of_one_task(ws, both):
    "The task of most runs; the others are named with the reason."
    from wattnb.plots.registry import FigureData
    from wattnb.plots.reports import Report, _setup_sentences, methods_text
    from wattnb.plots.wattbot_figures import part_names, part_weights
    p = read_runs(ws, 'both', 'new_QA')
    assert p.task == NEW and len(p.labels) == 2 and [why for _, why in p.skipped] == ['scored by wattbot2025'] * 2
    data = FigureData(ws, 'both', 'new_QA')
    assert set(data.left_out.values()) == {'scored by wattbot2025, most runs by wattbot2026'} and {e.scores.task for e in data.scored} == {NEW}
    runs = data.tables.runs
    assert part_weights(runs) == NEW.weights and part_names(runs)['ref'] == 'citation F1' and part_weights(runs.iloc[:0]) == WATTBOT2025.weights
    parts = sum(w * runs[k].astype(float).fillna(1) for k, w in part_weights(runs).items())
    assert parts.tolist() == pytest.approx(runs['overall'].astype(float).tolist())
    r = Report(ws.root, 'both', 'new_QA')
    assert len(r.runs) == 2 and sum('scored by wattbot2025' in x for x in r.left_out) == 2
    narrow = [SimpleNamespace(stored=SimpleNamespace(identity=x.stored.identity | more), precision=x.precision, env=x.env)
              for x, more in zip(r.runs, ({}, dict(context_tokens=250)))]
    said = ' '.join(_setup_sentences(narrow)) # a model of its own limit is named as a difference
    assert 'at most 250 or ' in said and 'Different between runs' in said and 'longest context' in said.split('Different between')[1]
    text = methods_text(r)
    assert '0.75 × value accuracy + 0.20 × F1 of the cited papers + 0.05 × NA recall (rows of the unanswerable that are blank as a whole)' in text and 'Jaccard' not in text
    assert '0.15 × Jaccard overlap of the cited papers + 0.10 × NA recall (blank values among the unanswerable)' in methods_text(Report(ws.root, datafile='demo_QA'))


def test_an_ensemble_votes_and_scores_by_its_task(ws, both):
    e = make_ensemble(ws, [both['extractive', ''][0], both['abstain', ''][0]], 'vote-new', env='both', datafile='new_QA', strategy='canonical')
    assert e.scores.task == NEW and e.summary['task'] == NEW.to_json() and e.summary['scorer_version'].startswith('wattbot2026-2:')
    assert score_run(find_run(ws, 'both/new_QA/vote-new'), GroundTruth(ws)).overall == pytest.approx(e.summary['overall_score'])


def test_a_file_of_solutions_is_scored_by_the_rules_of_the_run(ws):
    "Questions without answers are answered and packed; their solutions, without a column of the task, come later."
    rows = read_csv(ws.data / 'new_QA.csv').rows
    keep = ['id', 'question', 'answer_unit', *COLUMNS[9:]]
    write_csv(ws.data / 'test_Q.csv', keep, [{k: r[k] for k in keep} for r in rows])
    plan = plan_run(RunSettings(model='extractive', questions='data/test_Q.csv', preset='words'), ws)
    s = run_all(plan).summary
    assert s['task']['name'] == 'wattbot2026' and s['scores'] is None and s['overall_score'] is None
    p = subprocess.run([sys.executable, '-m', 'wattnb.cli', 'submit', 'test_Q/extractive-bench-words', '--json', '--root', str(ws.root)], capture_output=True, text=True)
    found = json.loads(p.stdout)
    assert p.returncode == 0 and found['passes'] and found['rows'] == len(rows) and found['task'] == 'wattbot2026', p.stdout + p.stderr
    solutions = ws.root / 'solutions.csv'
    write_csv(solutions, ['id', 'answer_value', 'ref_id'], [{k: r[k] for k in ('id', 'answer_value', 'ref_id')} for r in rows])
    late = score_run(find_run(ws, str(plan.run_dir)), GroundTruth(ws, solutions))
    known = score(read_truth(ws.data / 'new_QA.csv'), find_run(ws, str(plan.run_dir)).predictions)
    assert late.task == NEW and late.overall == known.overall


# --- a user's own rules --------------------------------------------------------------------------------------------------

def test_a_task_of_ones_own_from_the_file_to_the_report(tmp_path, monkeypatch, capfd):
    "Weights and columns in `wattnb.toml`; numbers, terms and sets; run, score, submit, compare, recommend and report by the commands."
    w = words_workspace(tmp_path / 'own')
    monkeypatch.chdir(w.root)
    rows = [r | dict(answer_value={0: '(Tarn, Halden)', 1: 'Tarn'}.get(i, r['answer_value'])) for i, r in enumerate(read_csv(w.data / 'demo_QA.csv').rows[:14])]
    named = lambda c: dict(id='qid', question='prompt', answer_value='gold').get(c, c)
    write_csv(w.data / 'mine_QA.csv', [named(c) for c in rows[0]], [{named(c): v for c, v in r.items()} for r in rows])
    (w.root / 'wattnb.toml').write_text('[task]\nname = "mine"\nvalue = 0.6\nref = 0.3\nna = 0.1\ncitations = "jaccard"\ncolumns = {id = "qid", question = "prompt", answer_value = "gold"}\n'
                                        'submission = ["id", "ref_id", "answer_value"]\ngates = ["empty", "missing", "uncited"]\n')
    def command(*a, json_=True, ok=(0,)):
        status = main([*a, '--root', str(w.root), *['--json'] * json_])
        out, err = capfd.readouterr()
        assert status in (ok if isinstance(ok, tuple) else (ok,)), out + err
        return err if status == 2 else json.loads(out) if json_ else out
    for model in ('extractive', 'abstain'):
        plan = plan_run(RunSettings(model=model, questions='data/mine_QA.csv', preset='words'), w)
        assert plan.questions.task.name == 'mine' and run_all(plan).summary['scores']['task']['ref'] == .3
    sub = str(plan.run_dir.with_name('extractive-bench-words') / 'submission.csv')
    s = command('score', 'data/mine_QA.csv', sub)
    assert s['task']['name'] == 'mine' and s['overall'] == pytest.approx(.6 * s['value_accuracy'] + .3 * s['ref_overlap'] + .1 * s['na_recall'])
    assert 'Score of mine' in command('score', 'data/mine_QA.csv', sub, json_=False) and 'task' not in command('score', 'data/mine_QA.csv', sub, '--task', 'wattbot2025')
    sent = command('submit', 'extractive-bench-words')
    lines = Path(sent['file']).read_text().splitlines()
    assert sent['passes'] and lines[0] == 'qid,ref_id,gold' and len(lines) == 15 and command('score', 'data/mine_QA.csv', sent['file'])['overall'] == s['overall']
    (w.root / 'edited.csv').write_text('\n'.join([*lines[:1], f'{rows[0]["id"]},,4', *lines[3:]]))
    found = command('submit', 'edited.csv', '--questions', 'data/mine_QA.csv', ok=1)['faults']
    assert [(f['id'], f['rule']) for f in found] == [(rows[0]['id'], 'empty'), (rows[0]['id'], 'uncited'), (rows[1]['id'], 'missing')]
    c = command('compare', 'extractive-bench-words', 'abstain-bench-words', '--datafile', 'mine_QA')
    assert c['task']['name'] == 'mine' and c['runs'][0]['overall'] == pytest.approx(s['overall'])
    assert c['pairs'][0]['diff'] == pytest.approx(c['runs'][0]['overall'] - c['runs'][1]['overall'])
    made = command('run', '--model', 'abstain', '--questions', 'data/mine_QA.csv', '--preset', 'words', '--task', 'wattbot2026')
    assert Path(made['run_dir']).name == 'abstain-bench-words-wattbot2026' and made['summary']['task'] == NEW.to_json() and made['summary']['config_snapshot']['task'] == 'wattbot2026'
    assert 'wattbot2026' in (Path(made['run_dir']) / 'run_experiment.ipynb').read_text('utf-8')
    left = command('compare', 'extractive-bench-words', 'abstain-bench-words-wattbot2026', '--datafile', 'mine_QA', ok=2)
    assert 'extractive-bench-words by mine; abstain-bench-words-wattbot2026 by wattbot2026' in left
    assert command('check-questions', 'data/mine_QA.csv', '--task', 'generic', ok=(0, 1))['task'] == 'generic'
    r = command('recommend', '--datafile', 'mine_QA')
    assert max(x['overall'] for x in r['top']) == pytest.approx(s['overall'])
    assert [x['task'] for x in command('results')['runs']] == ['mine', 'mine', 'wattbot2026']
    report = Path(command('report', '--datafile', 'mine_QA')['report']).read_text('utf-8')
    assert '0.60 × value accuracy + 0.30 × Jaccard overlap of the cited papers + 0.10 × NA recall' in report and '0.75' not in re.findall(r'The score is [^;]*', report)[0]


def test_true_and_false_are_written_as_the_task_declares():
    own = read_task(dict(base='generic', truths=['yes', 'no']))
    for task, (yes, no) in ((own, ('yes', 'no')), (NEW, ('1', '0')), (WATTBOT2025, ('1', '0'))):
        q = Question('q', 'True or False: the hall is cooled by sea water.', answer_value=yes, task=task)
        assert [read_value(x, q)[0] for x in ('True', 'yes.', '1', 'FALSE', 'no', '0', 'maybe')] == [yes] * 3 + [no] * 3 + ['maybe']
        assert [parse_reply(x, q, compact=True).value for x in ('That is true.', 'No')] == [yes, no]
        assert score([q], [Prediction('q', parse_reply('{"answer_value": "True"}', q).value)]).value_accuracy == 1


def test_exact_values():
    exact = lambda t, p: score_value(t, p, 'exact')
    assert exact('(Tarn, Halden)', '[Halden; Tarn]') and exact('4', '4.0') and exact('Tarn', ' Tarn ') and not exact('Tarn', 'tarn') and not exact('(a, b)', 'a') and exact('(1, 2)', '(2.0005, 1)')


# --- values of any form --------------------------------------------------------------------------------------------------

wild = st.one_of(st.text(max_size=80), st.text('()[]{},;.-−–0123456789eE+ \t\u00a0\u202f~<>"\'', max_size=60), st.lists(st.text('ab1, ()[]', max_size=9), max_size=9).map(str))


@settings(max_examples=300)
@given(wild, wild, st.sampled_from(sorted(VALUE_RULES)))
def test_any_two_texts_can_be_compared(truth, given_, rule):
    assert score_value(truth, given_, rule) in (True, False)
    q = Question('q', 'How much?', answer_value=truth, answer_unit='kWh', ref_id=truth, task=next(t for t in TASKS.values() if t.values == rule))
    s = score([q, replace(q, id='r', answer_value='4')], [Prediction('q', given_, given_)])
    assert 0 <= s.overall <= 1


@settings(max_examples=150)
@given(st.integers(-10**9, 10**9), st.sampled_from('-−‐–'), st.sampled_from([' ', '\u00a0', '\u2009', '\u202f', '']))
def test_minus_signs_and_spaces_of_unicode(n, minus, space):
    written = space + str(n).replace('-', minus) + space
    assert score_value(str(n), written, 'wattbot2026') and score_value(f'[{n - 1}, {n + 1}]', written, 'wattbot2026') and score_value(f'({n}, 7)', f'(7,{space} {written})', 'wattbot2026')
    assert not score_value(str(n), str(-n if abs(n) > 1 else n + 2), 'wattbot2026')
    assert score_value('carbon intensity', f'{space}carbon{space or " "}intensity', 'wattbot2026')


def test_long_values_take_linear_time():
    took = {}
    for unit in (' ', ',', ';', '(', '[', '1', 'a', '-', '.', ' ;', '1 ', 'the ', '~', '\u202f', '1,', ', '):
        for n in (20_000, 80_000):
            text = unit * (n // len(unit))
            t0 = time.perf_counter()
            for value in (text, f'({text})', f'[{text}]', f'more{text}', f'1{text}x'):
                for rule in VALUE_RULES: score_value(value, value + 'x', rule)
            took[unit, n] = time.perf_counter() - t0
    slow = {u: (took[u, 20_000], took[u, 80_000]) for u, n in took if n == 80_000 and took[u, 80_000] > 14 * took[u, 20_000] + .3}
    assert not slow


@pytest.mark.parametrize('gold, sent, right', [('12', '12.012', True), ('12', '12.013', False), ('0.002', '0.003', True), ('0.002', '0.0031', False), ('[1, 2]', '2.002', True), ('[1, 2]', '2.1', False),
    ('[1, 2]', '(1,2)', False), ('(1, 2)', '1', False), ('(1, 2)', '(2,1)', True), ('(1, 2)', '(1, 2, 2)', False), ('solar', 'Solar!', True), ('solar power', 'photovoltaics', False),
    ('12', '1.2%', False), ('12', '12%', False), ('12', '1/2', False), ('12', '1,2', False), ('1.5', '15%', False), ('4', '-4%', False), ('(1,2)', '(1%,2%)', False), ('[1, 2]', '1.5%', False), ('1.2%', '12', False), ('12', '(12)', False),
    ('wind and solar', '(wind, solar)', False), ('(wind, solar)', 'wind and solar', False), ('wind and solar', 'the Wind and Solar', True)])
def test_the_rules_of_2026_as_announced(gold, sent, right): assert score_value(gold, sent, 'wattbot2026') == right


def test_a_refusal_of_2026_needs_all_four_cells_and_no_forbidden_sign():
    q, blank = Question('q', '', answer_value='is_blank', ref_id='is_blank', task=NEW), dict(value='is_blank', refs='is_blank', urls='is_blank', materials='is_blank')
    judged = lambda **kw: score([q], [Prediction('q', **blank | kw)]).na_recall
    assert judged() == 1 and [judged(**{k: v}) for k, v in (('value', '4'), ('refs', '["a"]'), ('urls', '["https://x.org/a"]'), ('materials', 'Table 2'), ('refs', '[]'), ('value', 'N/A'), ('materials', ''))] == [0] * 7
    asked = [replace(q, answer_value='4', ref_id='["a"]')]
    assert [score(asked, [Prediction('q', v, '["a"]')]).value_accuracy for v in ('4', '~4', '<4', '>4')] == [1, 0, 0, 0]


# --- units ---------------------------------------------------------------------------------------------------------------

def asked(unit, task=NEW): return Question('q', 'How much was it?', answer_unit=unit, task=task)


@settings(max_examples=200)
@given(st.sampled_from(sorted(UNITS)), st.sampled_from(sorted(UNITS)), st.floats(-1e6, 1e6).map(lambda x: round(x, 4)))
def test_a_number_in_another_unit_of_one_dimension(stated, wanted, x):
    "Converted by the factor of the two units where they measure the same, and untouched otherwise."
    value, conversions = read_value(f'{x!r} {stated}', asked(wanted))
    factor = factor_between(stated, wanted)
    assert (factor is None) == (unit_scale(stated)[0] != unit_scale(wanted)[0])
    if conversions:
        assert float(value) == pytest.approx(x * factor, rel=1e-9, abs=1e-12) and conversions == ({'from': stated, 'to': wanted, 'factor': factor},)
        assert factor_between(wanted, stated) == pytest.approx(1 / factor)
    if factor is None: assert not conversions
    assert read_value(repr(x), asked(wanted)) == (read_value(repr(x), asked(wanted, WATTBOT2025))[0], ()) # a bare number is in the unit asked for


@settings(max_examples=300)
@given(wild, st.one_of(st.sampled_from(['kWh', 'million USD', 'percent', 'gCO2e/kWh', 'PUE', '/', 'per']), st.text(max_size=20)))
def test_any_reply_and_any_unit(text, unit):
    for task in TASKS.values():
        q = asked(unit, task)
        a = parse_reply(json.dumps(dict(answer_value=text, answer='', explanation='', ref_id=[], supporting_materials='')), q)
        assert a.status in ('answered', 'abstained') and len(a.value) <= 500
        assert parse_reply(text, q, compact=True).status in ('answered', 'abstained', 'unparsed')
        if not task.convert: assert not a.conversions


def test_the_unit_of_a_question_reaches_prompt_parser_record_and_page(ws):
    "A question file without answers, a served model that answers in another unit."
    from wattnb.cli.explorer import question_html
    from wattnb.experiment.asking import Citations, ask
    rows = [dict(id='u1', question='How much electricity did the hall draw?', answer_unit='MWh'), dict(id='u2', question='How much did it weigh?', answer_unit='kg'), dict(id='u3', question='What did it emit?', answer_unit='MWh')]
    said = {'How much electricity': '4.5 GWh', 'How much did it weigh': '1.2 million tons', 'What did it emit': '7 kg'}
    write_csv(ws.data / 'units_Q.csv', ['id', 'question', 'answer_unit', 'CrossPaper'], [r | dict(CrossPaper='0') for r in rows])
    def reply(h, body, n):
        prompt = body['messages'][-1]['content']
        value = next(v for k, v in said.items() if k in prompt)
        text = json.dumps(dict(explanation='p. 1', answer='much', answer_value=value, ref_id=['halvorsen2029'], supporting_materials=''))
        send(h, 200, dict(choices=[dict(message=dict(content=text), finish_reason='stop')], usage=dict(prompt_tokens=9, completion_tokens=9)))
    with Page(reply) as s, environment(**KEYS, **s.env()):
        plan = plan_run(RunSettings(model='openai:served', questions='data/units_Q.csv', preset='words', name='units'), ws)
        files = run_all(plan)
        one = ask('How much electricity did the hall draw?', 'openai:served', unit='MWh', root=ws, preset='words', questions='data/units_Q.csv')
        old = ask('How much electricity did the hall draw?', 'openai:served', unit='MWh', root=ws, preset='words', task='wattbot2025')
        assert any('plain number in MWh, converted to this unit' in b['messages'][-1]['content'] for b in s.bodies)
    results = {r['id']: r for r in read_json(plan.run_dir / 'results.json')}
    assert [results[i]['pred_value'] for i in ('u1', 'u2', 'u3')] == ['4500', '1200000000', '7 kg']
    assert results['u1']['conversions'] == [{'from': 'GWh', 'to': 'MWh', 'factor': 1000.}] and 'conversions' not in results['u3']
    assert list(files.results)[0]['conversions'] == results['u1']['conversions']
    assert [r['answer_value'] for r in read_csv(plan.run_dir / 'submission.csv').rows][:2] == ['4500', '1200000000']
    assert derive(read_journal(plan.run_dir / 'journal.jsonl')).summary == {k: v for k, v in read_json(plan.run_dir / 'summary.json').items() if k != 'files'}
    assert one.answer.value == '4500' and 'converted from GWh to MWh (× 1000)' in one.to_text() and 'converted from GWh to MWh' in one._repr_html_()
    assert old.answer.value == '4.5 GWh' and 'converted' not in old.to_text()
    import pandas as pd
    row = dict(id='u1', question=rows[0]['question'], unit='MWh', truth_refs='', truth_value='', run='units', error_class='right', value='4500', refs='', latency_seconds=1., joules=1., energy_is='')
    assert 'converted from GWh to MWh' in question_html(pd.DataFrame([row]), find_run(ws, str(plan.run_dir)), Citations({}))


def test_the_wording_is_that_of_the_task():
    assert prompt_digest() == prompt_digest(WATTBOT2025) != prompt_digest(NEW) and '[low,high]' in answer_form(asked('kWh', WATTBOT2025)) and '(low,high)' in answer_form(asked('kWh'))
    with pytest.raises(UserError, match='brackets must be one of'): read_task(dict(brackets='{}'))
