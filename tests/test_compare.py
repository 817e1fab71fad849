"""Comparison, matrix, audit, tidy store, error classes: on made-up trees in all nestings, and on the recorded runs."""
import csv, json, random, re, shutil, statistics
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from wattnb.cli.command import main
from wattnb.compare.auditing import audit
from wattnb.compare.paired import ScoredRun, compare, compare_scores
from wattnb.compare.results_matrix import matrix
from wattnb.compare.run_diff import ANSWER_KINDS, diff_runs
from wattnb.experiment.stored import results_table
from wattnb.scoring.store import ERROR_CLASSES, TIDY_COLUMNS, Store, load
from wattnb.compare.errors import decompose
from wattnb.core.questions import BASE_COLUMNS, Question
from wattnb.legacy.rescoring import rescore
from wattnb.scoring.run_folders import GroundTruth, find_run, find_runs, pick_runs, score_run
from wattnb.scoring.answers import Prediction
from wattnb.scoring.scores import score
from wattnb.core.workspace import UserError, jsonable, write_csv, write_json

SHARED = next((p / 'shared/wattbot' for p in Path(__file__).resolve().parents if (p / 'shared/wattbot').is_dir()), None)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch): monkeypatch.setenv('WATTNB_CACHE', str(tmp_path_factory.mktemp('cache')))


def truth(ws, stem='train_QA', n=12, first=0):
    rows = [dict(id=f'q{i}', question=f'Question {i}?', answer='x', answer_value='is_blank' if i % 6 == 5 else str(10 * i + 1), answer_unit='W', ref_id='is_blank' if i % 6 == 5 else f"['p{i % 3}']", explanation='Quote',
                 Quote=i % 2, Table=1 - i % 2, Figure=0, Math=0, is_NA=int(i % 6 == 5), Usage='Public' if i % 3 else 'Private') for i in range(first, first + n)]
    write_csv(ws / f'data/{stem}.csv', list(rows[0]), rows)
    return rows


def run(ws, path, rows, wrong=(), blank=(), chunks=0, records=True, submission=True, **summary):
    d = ws / 'artifacts/experiments' / path
    val = lambda r: '-7' if r['id'] in wrong else 'is_blank' if r['id'] in blank or r['is_NA'] else r['answer_value']
    ref = lambda r: '["is_blank"]' if val(r) == 'is_blank' else r['ref_id'].replace("'", '"')
    recs = [dict(id=r['id'], question=r['question'], gt_value=r['answer_value'], gt_unit=r['answer_unit'], gt_ref=r['ref_id'], pred_value=val(r), pred_ref=ref(r), pred_explanation='why', raw_response='', error=None,
                 latency_seconds=1.5, retrieval_seconds=.1, generation_seconds=1.4, retry_count=0) for r in rows]
    if submission: write_csv(d / 'submission.csv', BASE_COLUMNS, [dict(id=r['id'], question=r['question'], answer='a', answer_value=x['pred_value'], answer_unit='W', ref_id=x['pred_ref'], explanation='why') for r, x in zip(rows, recs)], quote_all=True)
    if chunks:
        for k in range(0, len(recs), chunks): write_json(d / f'results_chunk_{k // chunks:03d}.json', recs[k:k + chunks])
    elif records: write_json(d / 'results.json', recs)
    s = score([Question(r['id'], r['question'], answer_value=r['answer_value'], ref_id=r['ref_id']) for r in rows], [Prediction(x['id'], x['pred_value'], x['pred_ref']) for x in recs])
    write_json(d / 'summary.json', dict(name=d.name, model_id=f'org/{d.name}', llm_provider='hf_local', quantization='4bit', num_questions=len(rows), total_time_seconds=1.5 * len(rows), avg_latency_seconds=1.5, value_accuracy=s.value_accuracy,
        ref_overlap=s.ref_overlap, na_accuracy=s.na_recall, overall_score=s.overall, input_tokens=5, output_tokens=5, estimated_cost_usd=0.,
        hardware=dict(gpu_energy_wh=2., gpu_energy_method='nvml', gpu_count=1, model_disk_size_gb=3.), config_snapshot=dict(max_concurrent=1, output=d.name)) | summary)
    return d


@pytest.fixture
def tree(tmp_path):
    rows, test = truth(tmp_path), truth(tmp_path, 'test_solutions', 10, 100)
    env = lambda e, d='train_QA': dict(run_environment=e, questions_file=f'{d}.csv')
    run(tmp_path, 'PE/train_QA/large-bench', rows, wrong=['q1'], chunks=5, **env('PE'))
    run(tmp_path, 'PE/train_QA/small-bench', rows, wrong=['q1', 'q2', 'q3', 'q4'], blank=['q6'], **env('PE'))
    run(tmp_path, 'PE/test_solutions/large-bench', test, **env('PE', 'test_solutions'))
    run(tmp_path, 'GB10/train_QA/large-bench', rows, wrong=['q1'], **env('GB10'))
    run(tmp_path, 'train_QA/no-env', rows, records=False, **env(''))
    run(tmp_path, 'GB10/no-datafile', rows, submission=False, **env('GB10'))
    run(tmp_path, 'flat-v1', rows, wrong=['q2'], **env('PE'))
    return tmp_path


# ---- finding and reading ------------------------------------------------------------------------------------------

def test_all_nestings(tree):
    got = {(r.env, r.datafile, r.name) for r in find_runs(tree)}
    assert got == {('PE', 'train_QA', 'large-bench'), ('PE', 'train_QA', 'small-bench'), ('PE', 'test_solutions', 'large-bench'), ('GB10', 'train_QA', 'large-bench'), ('', 'train_QA', 'no-env'),
                   ('GB10', 'train_QA', 'no-datafile'), ('PE', 'train_QA', 'flat-v1')}
    for r in find_runs(tree): assert score_run(r, GroundTruth(tree)).overall == pytest.approx(r.summary['overall_score'], abs=1e-12), r.id


def test_names_paths_and_ambiguity(tree):
    with pytest.raises(UserError, match='ambiguous.*GB10/train_QA/large-bench.*PE/test_solutions/large-bench'): find_run(tree, 'large-bench')
    assert find_run(tree, 'large-bench', env='GB10').env == 'GB10'
    assert find_run(tree, 'large-bench', 'PE', 'test_solutions').datafile == 'test_solutions'
    assert find_run(tree, tree / 'artifacts/experiments/flat-v1/summary.json').name == 'flat-v1'
    assert find_run(tree, 'PE/train_QA/small-bench').id == 'PE/train_QA/small-bench'
    with pytest.raises(UserError, match='did you mean'): find_run(tree, 'smal-bench')
    with pytest.raises(UserError, match='named twice'): pick_runs(tree, ['small-bench', 'PE/train_QA/small-bench'])


def test_chunks_are_read_in_numeric_order(tmp_path):
    rows = truth(tmp_path, n=12)
    d = run(tmp_path, 'PE/train_QA/m', rows, chunks=1, questions_file='train_QA.csv')
    assert len(list(d.glob('results_chunk_*'))) == 12 and [r['id'] for r in find_run(tmp_path, 'm').records] == [r['id'] for r in rows]


def test_recorded_truth_serves_when_the_file_is_missing(tree):
    (tree / 'data/train_QA.csv').unlink()
    assert score_run(find_run(tree, 'small-bench'), GroundTruth(tree)).overall == pytest.approx(find_run(tree, 'small-bench').summary['overall_score'])
    assert score_run(find_run(tree, 'no-env'), GroundTruth(tree)) is None


def test_a_limited_run_is_scored_on_its_own_questions(tmp_path):
    rows = truth(tmp_path)
    run(tmp_path, 'PE/train_QA/few', rows[:5], wrong=['q1'], questions_file='train_QA.csv')
    assert score_run(find_run(tmp_path, 'few'), GroundTruth(tmp_path)).n == 5
    d = run(tmp_path, 'PE/train_QA/lost', rows, questions_file='train_QA.csv')
    write_csv(d / 'submission.csv', BASE_COLUMNS, find_run(tmp_path, 'lost').submission[:7], quote_all=True)
    s = score_run(find_run(tmp_path, 'lost'), GroundTruth(tmp_path))
    assert s.n == 12 and s.strict['missing'] == 5


# ---- the store ----------------------------------------------------------------------------------------------------

def test_a_damaged_cache_of_rows_is_read_again(tree):
    "At any byte of a page, in its list of runs and in its columns: the frame is that of the run folders."
    import pandas as pd
    pq = pytest.importorskip('pyarrow.parquet')
    whole, file = load(tree, cache=False), Store(tree).file
    same = lambda: pd.testing.assert_frame_equal(load(tree), whole, check_categorical=False)
    def metadata(value): pq.write_table(pq.read_table(file).replace_schema_metadata({'index': value}), file)
    same(); raw = file.read_bytes()
    flips = [lambda at=at: file.write_bytes(raw[:at] + bytes([raw[at] ^ 255]) + raw[at + 1:]) for at in range(4, len(raw), len(raw) // 40)]
    for damage in (*flips, lambda: metadata('[]'), lambda: metadata('7'), lambda: metadata('[' * 100_000), lambda: pq.write_table(pq.read_table(file).drop(['value']), file)):
        load(tree); damage(); same()


def test_store_is_incremental_and_equal_to_no_store(tree):
    import pandas as pd
    df = load(tree)
    assert list(df.columns) == list(TIDY_COLUMNS) and len(df) == 6 * 12 + 10
    pd.testing.assert_frame_equal(df, load(tree, cache=False), check_categorical=False)
    for rid, g in df.groupby('run', observed=True): assert g['contribution'].mean() == pytest.approx(find_run(tree, rid).summary['overall_score'], abs=1e-12)
    store, read = Store(tree), []
    store._rows = lambda r, f=store._rows: (read.append(r.id), f(r))[1]
    assert len(store.frame()) == len(df) and read == []
    run(tree, 'PE/train_QA/small-bench', truth(tree), wrong=['q0'], questions_file='train_QA.csv', run_environment='PE')
    store.truths = GroundTruth(tree)
    assert len(store.frame()) == len(df)
    assert 'PE/train_QA/small-bench' in read
    assert load(tree, runs=['small-bench'])['value_correct'].sum() == 11
    assert load(tree, columns=['value_correct', 'run'], env='GB10').shape == (24, 2)


def test_damaged_cache_is_rebuilt(tree):
    df, store = load(tree), Store(tree)
    for damage in (b'', store.file.read_bytes()[:-9]):
        store.file.write_bytes(damage)
        assert len(load(tree)) == len(df)
    store.file.unlink()
    assert len(load(tree)) == len(df)


def test_a_run_read_later_leaves_the_rows_of_the_others(tmp_path):
    rows = truth(tmp_path)
    for i in range(4):
        run(tmp_path, f'PE/train_QA/m{i}', rows, records=False, questions_file='train_QA.csv')
        assert load(tmp_path, runs=[f'm{i}'])['value_correct'].all()
    df = load(tmp_path)
    assert list(dict.fromkeys(df['run'])) == [f'PE/train_QA/m{i}' for i in range(4)] and len(df) == 4 * len(rows)


# ---- comparing ----------------------------------------------------------------------------------------------------

def simulated(k, n=60, seed=0, gap=.05):
    rng = np.random.default_rng(seed)
    qs = [Question(f'q{i}', '?', answer_value='is_blank' if i % 15 == 0 else str(i), ref_id='is_blank' if i % 15 == 0 else f"['p{i % 9}']", flags=dict(Quote=i % 2 > 0)) for i in range(n)]
    hard = rng.random(n)
    return [ScoredRun(f'm{j}', score(qs, [Prediction(q.id, 'is_blank' if q.is_na and rng.random() < .8 else q.answer_value if o and not q.is_na else '-1', q.ref_id if rng.random() < .8 else '["z"]') for q, o in zip(qs, hard + rng.normal(0, .3, n) < .8 - gap * j)])) for j in range(k)]


@pytest.mark.parametrize('strict', [False, True])
def test_pairs_are_coherent_and_match_scipy(strict):
    es = simulated(4)
    c = compare_scores(es, strict=strict, clusters='none')
    by = {e.label: e for e in es}
    for p in c.pairs:
        a, b = by[p['a']], by[p['b']]
        d = np.array(a.scores.contributions(strict)) - np.array(b.scores.contributions(strict))
        assert p['diff'] == pytest.approx((a.scores.strict['overall'] - b.scores.strict['overall']) if strict else a.scores.overall - b.scores.overall, abs=1e-12)
        assert p['p'] == pytest.approx(stats.permutation_test((d,), np.mean, permutation_type='samples', n_resamples=20_000, rng=1).pvalue, abs=.02)
        assert p['ci_low'] <= p['diff'] <= p['ci_high'] and 0 < p['p'] <= p['p_holm'] <= 1 and p['mcnemar_p'] <= p['mcnemar_p_holm'] <= 1
        assert p['mcnemar_p'] == pytest.approx(stats.binomtest(p['a_only'], p['a_only'] + p['b_only']).pvalue if p['discordant'] else 1, abs=1e-9)
        assert bool(set(c.letters[p['a']]) & set(c.letters[p['b']])) == (not p['different']) and p['different'] == (p['p_holm'] <= .05 and not p['ci_low'] <= 0 <= p['ci_high'])
    assert json.loads(json.dumps(jsonable(c.to_json())))['mde'] > 0


def forty(label, wrong=(), cited=40, unanswerable=2, papers=1):
    "A run over forty questions: which of them it has wrong, and how many it cites rightly."
    qs = [Question(f'q{i}', '?', answer_value='is_blank' if i < unanswerable else str(i), ref_id='is_blank' if i < unanswerable else f"['p{i % papers}']") for i in range(40)]
    return ScoredRun(label, score(qs, [Prediction(q.id, q.answer_value if i not in wrong else '-1', q.ref_id if i < cited else '["x"]') for i, q in enumerate(qs)]))


def test_a_difference_needs_the_test_and_the_interval():
    "Where p and interval do not agree, the pair is not called different, neither by letters nor in words, and the sentence says why."
    by_test = compare_scores([forty('good'), forty('bad', cited=34)]) # six citations; two unanswerable questions widen the interval
    by_interval = compare_scores([forty('good', range(3), unanswerable=0), forty('bad', range(3, 14), unanswerable=0)]) # eleven to three: p = .057
    for c, why, small, outside in ((by_test, 'includes zero, so the p value alone does not decide', True, False), (by_interval, 'excludes zero, but the test does not reach 5 %', False, True)):
        [p] = c.pairs
        assert (p['p_holm'] <= .05, p['ci_low'] > 0, p['different'], set(c.letters.values())) == (small, outside, False, {'a'})
        assert c.verdict.startswith('good is not shown to be better than bad') and why in c.verdict and c.to_text().startswith(c.verdict)
        assert c.to_json()['verdict'] == c.verdict and c.pair_table.to_json()[0]['different'] is False
    both = compare_scores([forty('good'), forty('bad', range(2, 20))], margin=.02)
    assert both.pairs[0]['different'] and both.verdict.startswith('good is better than bad in the overall score (+')
    assert both.margin_table.to_json()[0]['verdict'] == 'a is better' and both.statements[0].startswith('good is better than bad')


def test_false_answers_are_no_right_ones(tmp_path):
    "A value for an unanswerable question is a false answer in `diff`, in text and JSON, though the value accuracy of the task counts it; differences of questions add up to that of the scores."
    rows = truth(tmp_path)
    for name, answers in (('careful', {}), ('bold', {'q5': '12.2', 'q1': '-7', 'q2': 'is_blank', 'q11': ''})): # q5 and q11 have no answer
        d = run(tmp_path, f'PE/train_QA/{name}', rows)
        said = json.loads((d / 'results.json').read_text())
        for r in said:
            if r['id'] in answers: r |= dict(pred_value=answers[r['id']], pred_ref='["p0"]', status='unparsed' if answers[r['id']] == '' else None)
        write_json(d / 'results.json', said)
        sub = list(csv.DictReader(open(d / 'submission.csv')))
        write_csv(d / 'submission.csv', BASE_COLUMNS, [r | dict(answer_value=answers.get(r['id'], r['answer_value'])) for r in sub])
    d = diff_runs(tmp_path, 'careful', 'bold')
    by = {r['id']: r for r in d.rows}
    assert by['q5']['first'] == '✓ refused' and by['q5']['second'] == '✗ 12.2' and by['q5']['outcome'] == 'only the first'
    assert d.kinds[0] == dict.fromkeys(ANSWER_KINDS, 0) | {'answered right': 10, 'refused rightly': 2}
    assert d.kinds[1] == {'answered right': 8, 'refused rightly': 0, 'wrong answer': 1, 'false answer': 1, 'false refusal': 1, 'no answer': 1}
    assert d.counts == {'both right': 8, 'only the first': 4, 'only the second': 0, 'both wrong': 0} and d.to_json()['kinds']['second'] == d.kinds[1]
    assert sum(r['diff'] for r in d.rows) == pytest.approx(d.comparison.pairs[0]['diff']) and by['q5']['diff'] > 0 and 'careful minus bold: +' in d.to_text() and 'false answer' in d.to_text()
    for p in results_table(tmp_path).to_json(): assert p['strict'] == pytest.approx(p['score'], abs=1e-9) if p['run'] == 'careful' else p['strict'] < p['score'] - .05
    assert 'counts any value for an unanswerable question as right' in results_table(tmp_path).to_text() and 'strict overall' in d.comparison.runs[1].scores.table().to_text()


def test_runs_that_differ_in_their_seed_alone(tree):
    rows = truth(tree)
    same = dict(model='m', precision='4bit', n=len(rows))
    for seed, wrong in enumerate((['q1', 'q2'], ['q1'], ['q1', 'q3', 'q4'])): run(tree, f'PE/train_QA/m-seed{seed}', rows, wrong=wrong, identity={**same, 'seed': seed})
    run(tree, 'PE/train_QA/m-other', rows, identity={**same, 'precision': '8bit', 'seed': 0})
    c = compare(tree, ['m-seed0', 'm-seed1', 'm-seed2', 'm-other', 'small-bench'], env='PE', datafile='train_QA')
    [r] = c.seed_table
    of = [next(e for e in c.runs if e.label == f'm-seed{k}').scores.overall for k in range(3)]
    assert (r['run'], r['seeds'], r['lowest'], r['highest']) == ('m-seed0', 3, min(of), max(of))
    assert r['mean'] == pytest.approx(sum(of) / 3) and r['sd'] == pytest.approx(statistics.stdev(of)) and r['questions that flip'] == pytest.approx(3 / len(rows))
    assert c.to_json()['seeds'] == [r] and 'seed alone' in c.to_text()
    shares = re.search('Over the 3 models, of the variance of an answer: question (.*)%, model (.*)%, model and question (.*)%, seed (.*)%, rest (.*)%', c.to_text()).groups()
    assert abs(sum(map(int, shares)) - 100) <= 2 # rounded
    assert not len(compare(tree, ['m-seed0', 'm-other'], env='PE', datafile='train_QA').seed_table)


def test_repeats_and_clusters():
    es = simulated(3)
    assert compare_scores(es).pairs == compare_scores(es).pairs
    auto, by_paper, none = compare_scores(es), compare_scores(es, clusters='papers'), compare_scores(es, clusters='none')
    assert auto.pairs == by_paper.pairs and any('9 papers' in n and 'ICC' in n and 'design effect' in n for n in auto.notes)
    assert auto.to_json()['clusters'] == dict(unit='paper', units=9 + 4) and none.to_json()['clusters'] == dict(unit='question', units=60)
    with pytest.raises(UserError, match='papers, none'): compare_scores(es, clusters='paper')


def together(n=90, papers=15, seed=1):
    "Two runs over questions of which those of one paper are right or wrong together, each run with its own papers."
    rng = np.random.default_rng(seed)
    qs = [Question(f'q{i}', '?', answer_value=str(i + 2), ref_id=f"['P{i % papers}']", flags=dict(Quote=True)) for i in range(n)]
    good = [rng.random(papers) < s for s in (.85, .55)]
    return [ScoredRun(f'm{k}', score(qs, [Prediction(q.id, q.answer_value if g[i % papers] else '-1', q.ref_id) for i, q in enumerate(qs)])) for k, g in enumerate(good)]


def test_questions_about_one_paper_are_not_independent():
    "p, Holm, McNemar, letters, both intervals and the detectable difference are by paper where papers are shared; --clusters none is the other way; every run's own interval too."
    es = together()
    a, b = compare_scores(es), compare_scores(es, clusters='none')
    p, q = a.pairs[0], b.pairs[0]
    assert p['design_effect'] == pytest.approx(6, rel=.1) and p['icc'] == pytest.approx(1) and q['design_effect'] == 1 and q['icc'] is None
    d = np.array([x - y for x, y in zip(*(e.scores.contributions() for e in es))]).reshape(6, 15).sum(0) # of fifteen papers
    assert p['p'] == pytest.approx(stats.permutation_test((d,), np.mean, permutation_type='samples', n_resamples=np.inf).pvalue) and p['mcnemar_p'] > q['mcnemar_p']
    assert q['p'] < .01 < p['p'] and p['ci_high'] - p['ci_low'] > 2 * (q['ci_high'] - q['ci_low'])
    assert (p['cluster_ci_low'], p['cluster_ci_high']) == (p['ci_low'], p['ci_high']) == (q['cluster_ci_low'], q['cluster_ci_high'])
    assert p['mde'] is None or p['mde'] > q['mde']
    assert a.mde_overall > 2 * b.mde_overall
    wide, narrow = a.runs[0].scores.ci['overall'], b.runs[0].scores.ci['overall']
    assert wide[1] - wide[0] > 1.8 * (narrow[1] - narrow[0]) and wide == es[0].scores.ci['overall']
    for c in (a, b):
        for x in c.pairs: assert x['ci_low'] <= x['diff'] <= x['ci_high'] and x['p'] <= x['p_holm'] and x['mcnemar_p'] <= x['mcnemar_p_holm']


def test_costs_are_compared_by_fieller_and_by_paper(tree):
    "The interval of a ratio is Fieller's, by paper as the other intervals; every table names its intervals."
    es = [ScoredRun(e.label, e.scores, None, {i: dict(joules=float(3 + k * (j % 15) + (j % 7 == k)), latency_seconds=2. + j % 3 + k, energy_is='question') for j, i in enumerate(e.ids)}) for k, e in enumerate(together())]
    a, b = compare_scores(es), compare_scores(es, clusters='none')
    wide, narrow = a.pairs[0]['cost']['energy'], b.pairs[0]['cost']['energy']
    assert wide[0] == narrow[0] and wide[2] - wide[1] > 1.5 * (narrow[2] - narrow[1]) > 0
    text = a.to_text()
    for name in ('Wilson', 'bootstrap of the paired differences', 'Fieller', 'ICC', 'design effect'): assert name in text, name


def test_a_handful_of_papers_cannot_be_resampled():
    "With fewer than six papers no test by paper could ever reach 5 %: questions are the unit, and the table has a note about it."
    es = together(papers=3)
    assert compare_scores(es).papers is None and 'not for other papers' in es[0].scores.table().to_text()
    assert compare_scores(es, clusters='papers').pairs[0]['p'] >= 2 / 2 ** 3


def test_detectable_difference_belongs_to_holm_and_to_what_is_possible():
    "The printed difference is at the level of Holm's first step, never above the share of discordant questions, and None, with the reason, where nothing can be found."
    few, many = compare_scores(simulated(2, n=120), clusters='none'), compare_scores(simulated(7, n=120, gap=.03), clusters='none')
    assert many.level == pytest.approx(.05 / 21) and few.level == .05 and '21 pairs' in many.pair_table.to_text()
    for c in (few, many):
        for p in c.pairs: assert p['mde'] is None or 0 < p['mde'] <= p['discordant'] / p['n']
    same = simulated(1)
    twins = compare_scores([same[0], ScoredRun('twin', same[0].scores)])
    assert twins.mde is None and twins.mde_overall is None and twins.pairs[0]['mde'] is None
    assert 'not known' in twins.pair_table.to_text() and ' 0.0 points' not in twins.to_text()
    rare = compare_scores(together(n=12, papers=12), clusters='none')
    assert rare.mde is None and '%' in rare.mde_note() and json.loads(json.dumps(jsonable(rare.to_json())))['mde'] is None


def test_the_flag_of_unanswerable_questions():
    "The old score counts every value of an unanswerable question as right: its row would be constant, so only the strict comparison has it."
    qs = [Question(f'q{i}', '?', answer_value='is_blank' if i % 3 == 0 else str(i), ref_id='is_blank' if i % 3 == 0 else f"['p{i}']", flags=dict(Quote=i % 3 > 0, is_NA=i % 3 == 0)) for i in range(30)]
    es = [ScoredRun(k, score(qs, [Prediction(q.id, 'is_blank' if q.is_na and v else '-1' if q.is_na else q.answer_value, '[]') for q in qs])) for k, v in (('a', True), ('b', False))]
    assert set(compare_scores(es).pairs[0]['by_flag']) == {'Quote'} and compare_scores(es, strict=True).pairs[0]['by_flag']['is_NA']['diff'] == 1
    assert 'counts as right whatever' in es[0].scores.group_table('flag').to_text()


def test_every_output_form(tmp_path):
    c = compare_scores(simulated(3))
    for suffix in ('.csv', '.json', '.tex', '.md', '.txt'): assert c.write(tmp_path / f'c{suffix}').stat().st_size > 100
    with pytest.raises(UserError, match='cannot write .doc'): c.write(tmp_path / 'c.doc')
    assert r'\begin{tabular}' in c.to_latex() and '|' in c.to_markdown() and '<table>' in c._repr_html_()


def test_twenty_runs_in_ten_seconds():
    es = simulated(20, n=282)
    c = compare_scores(es)
    assert len(c.pairs) == 190 # its speed: benchmarks/intervals.py


@pytest.mark.parametrize('words, option', [(['compare', 'large-bench', 'small-bench', '--env', 'PE', '--datafile', 'train_QA'], '--margin'), (['recommend', '--env', 'PE', '--datafile', 'train_QA'], '--margin'),
                                           *((['design', '--disagree', '20'], o) for o in ('--margin', '--difference', '--power')), (['design'], '--disagree')])
def test_options_in_points_are_judged_in_points(tree, words, option, capsys):
    "The error is one line in the unit of the option, and a share in its place is warned of."
    for wrong in ('0', '-2', '100', 'nan'):
        assert main([*words, option, wrong, '--root', str(tree)]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f'wattnb: {option} is in p') and 'above 0 and below 100' in err and 'share' not in err and err.count('\n') == 1, err
    main([*words, option, '0.02', '--root', str(tree)])
    assert f'{option} 0.02 is 0.02 p' in (err := capsys.readouterr().err) and f'for 2 write {option} 2' in err
    if words[0] != 'recommend':
        assert main([*words, option, '5' if option != '--power' else '80', '--root', str(tree)]) == 0 and option not in capsys.readouterr().err


def test_the_command_shows_the_first_tables(tree, capsys):
    "`compare` begins with what it says, and has the further tables with --wide, in files and in JSON."
    words = ['compare', 'PE/train_QA/large-bench', 'PE/train_QA/small-bench', '--root', str(tree)]
    text = {}
    for more in ([], ['--wide']):
        assert main([*words, *more]) == 0
        text[bool(more)] = capsys.readouterr().out
    assert all(t.startswith('PE/train_QA/large-bench is not shown to be better') or t.startswith('large-bench is not shown to be better') for t in text.values())
    of_each = 'Paired differences (a − b) of each metric'
    assert of_each not in text[False] and '--wide' in text[False] and of_each in text[True] and 'further tables' not in text[True]
    assert main([*words, '--output', str(tree / 'c.txt')]) == 0 and of_each in (tree / 'c.txt').read_text()


def test_across_machines(tree):
    c = compare(tree, ['GB10/train_QA/large-bench', 'PE/train_QA/large-bench'])
    assert c.pairs[0]['cost']['determinism'] == 'identical answers' and c.pairs[0]['cost']['latency'][0] == pytest.approx(1)
    assert c.pairs[0]['p'] == 1 and c.letters == {'GB10/train_QA/large-bench': 'a', 'PE/train_QA/large-bench': 'a'}
    with pytest.raises(UserError, match='different question sets.*0 in common'): compare(tree, ['PE/train_QA/large-bench', 'PE/test_solutions/large-bench'])


# ---- matrix -------------------------------------------------------------------------------------------------------

def test_matrix_columns_truth_and_collisions(tree):
    m = matrix(tree, env='PE', datafile='train_QA')[0]
    assert m.columns[:6] == ('id', 'question', 'GT_Value', 'GT_Ref', 'GT_Explanation', 'answer_unit') and m.models == ('large-bench', 'small-bench', 'flat') or set(m.models) == {'flat', 'large-bench', 'small-bench'}
    k = m.columns.index('large-bench_Value')
    assert m.columns[k:k + 5] == tuple(f'large-bench_{x}' for x in ('Value', 'Ref', 'ValCorrect', 'RefScore', 'NACorrect'))
    every = matrix(tree)
    assert {(p.env, p.datafile, len(p)) for p in every} == {('', 'train_QA', 12), ('GB10', 'train_QA', 12), ('PE', 'train_QA', 12), ('PE', 'test_solutions', 10)}
    names = [p.name for p in every.write(tree / 'out/m.csv')]
    assert len(set(names)) == 4
    assert m.df.index.name == 'id'
    assert [p.name for p in matrix(tree, env='GB10').write()] == ['results_matrix_GB10.csv']


def test_matrix_from_files_and_round_trip(tree):
    m = matrix(tree, submissions=[str(tree / 'artifacts/experiments/PE/train_QA/*/submission.csv')])
    assert m[0].datafile == 'train_QA' and set(m[0].models) == {'large-bench', 'small-bench'}
    [path] = m.write(tree / 'm.csv')
    rows = list(csv.DictReader(path.open()))
    assert rows[1]['large-bench_ValCorrect'] == 'False' and rows[0]['large-bench_RefScore'] == '1.0' and len(rows) == 12


def test_matrix_takes_the_loose_submissions_of_wattbot(tree):
    "artifacts/submission_<name>.csv is read beside the runs; it names no machine, and its truth is found by its questions."
    import shutil
    loose, run = tree / 'artifacts', tree / 'artifacts/experiments/PE/train_QA/large-bench/submission.csv'
    shutil.copy(run, loose / 'submission_old-v1.csv'); shutil.copy(run, loose / 'submission_flat.csv')
    (loose / 'submission_stray.csv').write_text('id,answer_value,ref_id\nzz9,1,[]\n')
    parts = {(p.env, p.datafile): p for p in matrix(tree)}
    mine, theirs = parts['', 'train_QA'], parts['PE', 'train_QA']
    assert {'old', 'flat'} <= set(mine.models) and not any('stray' in m or 'old' in m for m in theirs.models)
    assert [r['old_ValCorrect'] for r in mine.rows] == [r['large-bench_ValCorrect'] for r in theirs.rows]
    assert all('old' not in p.models for p in matrix(tree, env='PE')), 'a file without a machine is of no machine'
    assert 'old' in next(p for p in matrix(tree, datafile='train_QA') if not p.env).models
    assert all('old' not in p.models for p in matrix(tree, datafile='test_solutions'))


def test_one_matrix_has_the_forms_of_a_result(tree):
    m = matrix(tree, env='PE', datafile='train_QA')[0]
    head = m.to_markdown().splitlines()[2]
    assert head.count('|') == len(m.columns) + 1 and m.to_latex().count(r' \\') == len(m) + 1
    assert m._repr_html_().count('<tr>') == len(m) + 1 and 'large-bench_Value' in m._repr_html_() and 'PE, train_QA' in repr(m)


def test_matrix_without_runs(tmp_path):
    truth(tmp_path)
    (tmp_path / 'artifacts/experiments').mkdir(parents=True)
    with pytest.raises(UserError, match='no runs'): matrix(tmp_path)


# ---- audit --------------------------------------------------------------------------------------------------------

def test_clean_runs_are_clean(tree):
    a = audit(tree, env='PE', datafile='train_QA')
    assert {r['run']: [f['rule'] for f in r['flags']] for r in a.runs if r['flags']} == {}


@pytest.mark.parametrize('change, rule', [
    (dict(overall_score=.5), 'SCORE_MISMATCH'), (dict(status='partial', schema_version=1), 'INCOMPLETE'), (dict(num_questions=99), 'QUESTION_COUNT'), (dict(error_count=5), 'ERRORS'), (dict(quantization='bf16', config_snapshot=dict(hf_dtype='4bit')), 'PRECISION'),
    (dict(total_time_seconds=5.), 'RESUMED'), (dict(model_id=''), 'NO_MODEL'), (dict(input_tokens=0, output_tokens=0), 'NO_TOKENS'), (dict(avg_latency_seconds=0.), 'ZERO_LAT'), (dict(avg_latency_seconds='fast'), 'SCHEMA'),
    (dict(llm_provider='openrouter'), 'ZERO_COST'), (dict(config_snapshot=dict(openrouter_api_key='sk-or-v1-abcdefghijklmnop')), 'SECRET'),
    (dict(hardware=dict(gpu_energy_wh=2., gpu_energy_method='nvml', gpu_avg_power_watts=900.)), 'ENERGY_POWER'), (dict(hardware=dict(gpu_energy_wh=0., gpu_energy_method='power_sampling')), 'ENERGY_ZERO'),
    (dict(hardware=dict(gpu_energy_wh=2., gpu_energy_method='nvml', gpu_count=2)), 'ONE_GPU'), (dict(model_id='org/Qwen2.5-7B', hardware=dict(model_disk_size_gb=28.4)), 'DISK_SIZE')])
def test_each_fault_of_a_summary_is_found(tmp_path, change, rule):
    run(tmp_path, 'PE/train_QA/m', truth(tmp_path), questions_file='train_QA.csv', run_environment='PE', **change)
    assert rule in {f['rule'] for f in audit(tmp_path).runs[0]['flags']}


def test_faults_of_files_are_found(tree):
    base = tree / 'artifacts/experiments/PE/train_QA'
    write_csv(tree / 'data/metadata.csv', ['id'], [dict(id='p0'), dict(id='p1')])
    shutil.copytree(base / 'small-bench', base / 'copy')
    recs = json.loads((base / 'small-bench/results.json').read_text())
    recs[0]['pred_value'], recs[7]['value_correct'] = '999', False
    write_json(base / 'small-bench/results.json', recs)
    (base / 'large-bench/results_chunk_001.json').unlink()
    (tree / 'artifacts/experiments/flat-v1/summary.json').write_text('[1, 2')
    a = audit(tree)
    flags = {r['run']: {f['rule'] for f in r['flags']} for r in a.runs}
    assert {'JSON_CSV_DRIFT', 'RECORD_SCORES', 'COPIED', 'UNKNOWN_REFS'} <= flags['PE/train_QA/small-bench'] | flags['PE/train_QA/copy']
    assert {'CHUNK_GAP', 'QUESTION_COUNT'} <= flags['PE/train_QA/large-bench']
    assert any('BAD_FILES' in f for f in flags.values()) and a.errors and a.to_text() and a._repr_markdown_()


def test_audit_survives_any_json(tmp_path):
    rng, rows = random.Random(5), truth(tmp_path)
    d = run(tmp_path, 'PE/train_QA/m', rows, questions_file='train_QA.csv')
    good = json.loads((d / 'summary.json').read_text())
    odd = [None, '', 'x', -1, 0, 1e308, [], {}, [1, {'a': None}], True, {'gpu_energy_wh': 'x'}]
    for _ in range(150):
        s = {k: rng.choice(odd) if rng.random() < .3 else v for k, v in good.items() if rng.random() < .9}
        (d / 'summary.json').write_text(json.dumps(s))
        a = audit(tmp_path)
        assert len(a.runs) == 1 and json.dumps(jsonable(a.to_json()))


# ---- errors and rescoring -----------------------------------------------------------------------------------------

def test_error_classes_sum_to_n(tree):
    e = decompose(tree, env='PE', datafile='train_QA')
    for c in e.counts.values(): assert sum(c.values()) == 12 and set(c) <= set(ERROR_CLASSES)
    assert e.counts['small-bench'] == dict(right=7, refused=1, wrong_value=4)


def test_rescoring_touches_nothing(tree):
    before = {p: p.read_bytes() for p in (tree / 'artifacts').rglob('*') if p.is_file()}
    for r in rescore(tree, ['small-bench', 'no-env']): assert r.after.overall == pytest.approx(r.before.overall)
    assert {p: p.read_bytes() for p in before} == before
    assert len(find_runs(tree)) == 7 # the new folders are not runs


# ---- recorded -----------------------------------------------------------------------------------------------------

@pytest.mark.skipif(SHARED is None, reason='recorded runs are not on this machine')
def test_recorded_tree_as_it_lies_there():
    runs = find_runs(SHARED / 'recorded')
    assert len(runs) == 11 and {(r.env, r.datafile) for r in runs} == {('PowerEdge', 'train_QA')}
    truth_file = SHARED / 'data/train_QA.csv'
    c = compare(SHARED / 'recorded', ['qwen72b-bench', 'qwen7b-bench', 'qwen3b-bench'], ground_truth=truth_file)
    assert len(c.pairs) == 3 and c.n == 41
    a = audit(SHARED / 'recorded', ground_truth=truth_file)
    assert len(a.runs) == 11 and {f['rule'] for r in a.runs for f in r['flags']} >= {'SCORE_MISMATCH', 'ONE_GPU', 'BLANK_WITH_REFS', 'NO_TOKENS'}
    m = matrix(SHARED / 'recorded', ground_truth=truth_file)
    assert len(m) == 41 and len(m[0].columns) == 6 + 5 * 11


# ---- a tree that is only looked at --------------------------------------------------------------------------------

def test_a_bare_tree_is_read_by_the_verbs_and_never_written(tree, tmp_path_factory, monkeypatch, capsys):
    from wattnb.cli.command import main
    here = tmp_path_factory.mktemp('here'); monkeypatch.chdir(here); monkeypatch.delenv('WATTNB_ROOT', raising=False)
    base = tree / 'artifacts/experiments'
    state = lambda: {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in [*base.parent.rglob('*')]}
    before, truth_file = state(), str(tree / 'data/train_QA.csv')
    pair = ['PE/train_QA/large-bench', 'PE/train_QA/small-bench']
    for verb in (['compare', *pair], ['audit'], ['matrix', '--env', 'PE', '--datafile', 'train_QA'], ['errors', '--env', 'PE', '--datafile', 'train_QA'], ['rescore', 'PE/train_QA/large-bench']):
        assert main([*verb, '--root', str(base), '--ground-truth', truth_file]) in (0, 1), verb
    assert main(['ensemble', '--experiments', *pair, '--name', 'v', '--root', str(base)]) == 2
    assert main(['ensemble', '--experiments', *pair, '--name', 'v', '--root', str(base), '--output', str(here / 'out')]) == 0
    assert state() == before
    assert {p.relative_to(here).parts[0] for p in here.rglob('*') if p.is_file()} == {'results_matrix_PE.csv', 'rescored', 'out'}
    (here / 'empty').mkdir()
    assert main(['audit', '--root', str(here / 'empty')]) == 2 and 'neither a workspace' in capsys.readouterr().err


# ---- records of WattBot -----------------------------------------------------------------------------------

def test_older_records_have_retrieval_and_waiting_time(tree):
    d = tree / 'artifacts/experiments/PE/train_QA/small-bench'
    recs = json.loads((d / 'results.json').read_text())
    for k, r in enumerate(recs): r['retrieved_snippets'] = [dict(node_id=f'{"p9" if k % 2 else "P" + str(k % 3)}:sec1:p1', rank=3, text='x')]
    write_json(d / 'results.json', recs)
    s = json.loads((d / 'summary.json').read_text())
    write_json(d / 'summary.json', {**s, 'config_snapshot': dict(max_concurrent=3), 'hardware': dict(gpu_energy_wh=5., gpu_energy_method='nvml')})
    df = load(tree, runs=['PE/train_QA/small-bench'])
    gold = df[~df.is_na]
    assert gold.gold_in_context.tolist() == [i % 2 == 0 for i in range(12) if i % 6 != 5] and set(gold.gold_rank.dropna()) == {3.}
    assert df[df.is_na].gold_in_context.isna().all() and df.latency_seconds.tolist() == pytest.approx([.5] * 12)
    assert set(df.energy_is) == {'shared by latency'} or df.energy_is.str.startswith('shared by latency').all()
    counts = decompose(tree, ['PE/train_QA/small-bench']).counts['small-bench']
    assert sum(counts.values()) == 12 and counts == df.error_class.astype(str).value_counts().to_dict()
    assert counts['not_retrieved'] > 0 and (df.error_class == 'not_retrieved').sum() == (df.gold_in_context.eq(False) & ~df.strict_value & ~df.is_na).sum()


def test_a_recorded_vote_is_checked_without_its_members(tmp_path):
    rows = truth(tmp_path)
    value_of = {'a': lambda r: r['answer_value'], 'b': lambda r: 'is_blank', 'c': lambda r: r['answer_value']}
    d = run(tmp_path, 'PE/train_QA/ens', rows, questions_file='train_QA.csv', type='ensemble', strategy='majority', ignore_blank=True, models=list('abc'), num_models=3)
    recs = [{**r, 'individual_answers': {m: f(q) for m, f in value_of.items()}, 'individual_refs': {m: r['pred_ref'] for m in value_of}} for r, q in zip(json.loads((d / 'results.json').read_text()), rows)]
    flags = lambda: {f['rule'] for f in audit(tmp_path).runs[0]['flags']}
    write_json(d / 'results.json', recs)
    assert not flags() & {'VOTE_DRIFT', 'MEMBERS_MISSING', 'SHIFTED_MEMBERS'}
    recs[0]['individual_answers'] = dict(a='999', b='999', c='1')
    del recs[1]['individual_answers']['b']
    write_json(d / 'results.json', recs)
    assert {'VOTE_DRIFT', 'SHIFTED_MEMBERS'} <= flags()
    (d / 'results.json').write_text('[{"id": ')
    assert 'BAD_RESULTS_JSON' in flags()


def test_a_ratio_without_an_upper_end_stays_without_one():
    "What the energies of both runs may be widens the interval of their ratio; where Fieller's interval has no upper end, none is made up."
    from wattnb.compare.paired import _energy_ratio
    from wattnb.telemetry.energy import RunEnergy
    a, b = RunEnergy(10., 9., 12., kind='extrapolated'), RunEnergy(5., 5., 5., kind='measured')
    assert _energy_ratio((2., 1.5, None), a, b) == (2., pytest.approx(1.35), None)
    assert _energy_ratio((2., 1.5, 3.), a, b) == (2., pytest.approx(1.35), pytest.approx(3.6))
    assert _energy_ratio((2., None, None), a, b) == (2., pytest.approx(1.8), pytest.approx(2.4))
    assert _energy_ratio((2., 1.5, 3.), a, RunEnergy(5., 5., None, kind='at least')) is None
