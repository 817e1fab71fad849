"""Every registered figure on synthetic runs: labels, drawn area, drawn numbers, looks; the whole way from runs to files.

`python tests/test_plots.py --update NAME ...` renews the baselines of these figures in `tests/plot_hashes.json`, and removes those of figures
that are gone; look at the pictures before.
"""
import functools, json, re, sys, tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from wattnb.cli.command import main
from wattnb.plots.checks import hash_distance, ink_fraction, missing_numbers, overlaps, perceptual_hash
from wattnb.plots.style import COLUMN, boxes_hit, grey_level, is_note, narrow_figures
from wattnb.plots.registry import ALIASES, COPIES, FIGURES, FigureData, as_shown
from wattnb.plots.figures import Gallery, draw, draw_all
from wattnb.testing.synthetic import DEMO, EFFORT, synthetic_runs
from wattnb.plots.questions import GROUP_OF, GROUPS
from wattnb.plots.reports import Report
from wattnb.scoring.run_folders import find_runs
from wattnb.core.workspace import Workspace

HASHES = Path(__file__).with_name('plot_hashes.json')
CLOSE = 40  # bits of 256 that versions of matplotlib and FreeType may change
SHARED = next((p / 'shared/wattbot' for p in Path(__file__).resolve().parents if (p / 'shared/wattbot').is_dir()), None)


@functools.cache
def made(plan=DEMO) -> FigureData:
    made.folders = [*getattr(made, 'folders', ()), folder := tempfile.TemporaryDirectory()] # removed at the end
    return FigureData(synthetic_runs(folder.name, plan), None, 'made_QA')


@functools.cache
def drawn(name): return draw(name, made(EFFORT) if name == 'thinking_effort' else made())


def numbers(name, df):
    shown = FIGURES[name].shown
    return np.asarray(shown(df) if callable(shown) else df[list(shown)], float)


@pytest.mark.parametrize('name', FIGURES)
def test_figure(name):
    fig, df = drawn(name)
    assert not is_note(fig), 'the synthetic runs have what every figure needs'
    assert overlaps(fig) == []
    assert ink_fraction(fig) > .002
    want = numbers(name, df)
    assert np.isfinite(want).sum() > 0
    assert missing_numbers(fig, want) == []
    words = {t.get_gid(): t.get_text() for t in (fig._suptitle, *fig.artists) if hasattr(t, 'get_text')}
    assert words['headline'].strip() and words['subline'].strip()
    titles = ' '.join(ax.get_title(loc='left') for ax in fig.axes)
    assert re.search(r'\bn = \d+', words['subline'] + titles), 'n is in the title'
    assert hash_distance(perceptual_hash(fig), json.loads(HASHES.read_text())[name]) <= CLOSE


@pytest.mark.parametrize('name', FIGURES)
def test_nothing_to_draw_is_a_note(name):
    df = drawn(name)[1]
    assert is_note(FIGURES[name].draw(df.iloc[:0]))


def test_every_figure_has_a_baseline(): assert set(json.loads(HASHES.read_text())) == set(FIGURES)


@pytest.mark.parametrize('name', ['abstention', 'question_map'])
def test_wide_figures_are_legible_on_a_phone(name):
    with narrow_figures(): fig = FIGURES[name].draw(as_shown(drawn(name)[1], made()))
    assert fig.get_figwidth() == COLUMN and overlaps(fig) == [] and missing_numbers(fig, numbers(name, drawn(name)[1])) == []


def test_stacked_bars_are_the_counts_in_their_rows():
    fig, df = drawn('error_classes')
    of = {v: k for k, v in made().names.items()}
    for i, l in enumerate(of[t.get_text()] for t in fig.axes[0].get_yticklabels()):
        bars = sorted((p.get_x(), p.get_width()) for p in fig.axes[0].patches if abs(p.get_y() + p.get_height() / 2 - i) < 1e-9)
        part = df[df['label'] == l].groupby(df['error_class'].map(GROUP_OF))['count'].sum()
        assert [w for _, w in bars] == [part[g] for g in GROUPS if part.get(g)]
        assert sum(w for _, w in bars) == df['n'].iloc[0]


def test_maps_are_their_tables_cell_by_cell():
    fig, df = drawn('question_map')
    wide = df.pivot(index='label', columns='id', values='error_class').loc[list(dict.fromkeys(df['label']))]
    codes = wide.map(lambda c: list(GROUPS).index(GROUP_OF[c])).to_numpy()
    image = np.asarray(fig.axes[0].images[0].get_array())
    assert sorted(map(tuple, image.T)) == sorted(map(tuple, codes.T.astype(float)))
    fig, df = drawn('agreement_heatmap')
    below, above = (np.ma.filled(im.get_array(), np.nan) for im in fig.axes[0].images)
    names = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    for r in df.itertuples():
        i, j = sorted(map(names.index, (r.a, r.b)))
        assert (below[j, i], above[i, j]) == pytest.approx((r.agreement, r.kappa), nan_ok=True)
    assert np.mean(np.diag(below, -1)) > df['agreement'].mean() + .02, 'runs that agree stand side by side'


def test_kinds_sizes_and_marks():
    df = made().tables.runs
    assert (df.loc[df['kind'] == 'API', 'estimated'].sum() >= 2) and df['active_b'].notna().sum() >= 4
    fig, _ = drawn('size_vs_scores')
    big = next(ax for ax in fig.axes if ax.get_title(loc='left') == 'overall score')
    named = {t.get_text() for t in big.texts if t.get_text()}
    assert named == set(df.loc[df['params_b'].notna(), 'label'] + np.where(df.loc[df['params_b'].notna(), 'estimated'], '*', '')), 'every run has its name, an estimated size a star'
    points = [l for l in big.lines if l.get_marker() in 'osD' and len(l.get_xdata()) == 1 and l.get_markeredgewidth() == .4]
    assert Counter(l.get_marker() for l in points) == dict(s=(df['kind'] == 'local').sum() - 3, o=3, D=3), 'a shape per machine, a diamond for an API'
    assert {l.get_markerfacecolor() for l in points} == {l.get_color() for l in points}, 'hollow means not significant, and nothing else'
    assert not set(drawn('unique_wins')[1]['kind']) & {'ensemble'} and 'ensemble' not in str(drawn('agreement_heatmap')[1]['a'].tolist())
    ranking = [t.get_text() for t in drawn('overall_ranking')[0].axes[0].get_yticklabels()]
    assert set(ranking) == set(df['label']) and len(ranking) == len(DEMO) + 1 and not any('[' in t for t in ranking)
    assert 'Qwen2.5 72B' in ranking and {'Qwen2.5 7B 4bit GB10', 'Qwen2.5 7B 4bit PowerEdge', 'Qwen2.5 7B bf16 PowerEdge'} < set(ranking), 'only what differs is in a name'


def test_a_run_has_one_name_colour_and_mark_in_every_figure():
    names, found = set(made().names.values()), {}
    for name in ('overall_ranking', 'score_breakdown', 'paired_differences', 'significance_groups', 'latency', 'error_classes', 'abstention', 'question_map', 'energy_stages', 'refusal_rates',
                 'cross_system_latency', 'cross_system_latency_all_models', 'cross_system_latency_distribution', 'energy_per_experiment', 'unique_wins', 'accuracy_by_type', 'tokens'):
        shown = {t.get_text() for t in drawn(name)[0].axes[0].get_yticklabels()} - {''}
        assert shown <= names, (name, shown - names)
    for name in ('size_vs_scores', 'size_vs_latency', 'accuracy_energy', 'scaling_fit', 'overall_ranking', 'cross_system_latency_all_models'):
        legends = drawn(name)[0].legends
        for t, handle in zip([t.get_text() for l in legends for t in l.get_texts()], [h for l in legends for h in l.legend_handles]):
            look = handle.get_marker() if hasattr(handle, 'get_marker') else handle.get_facecolor()
            assert found.setdefault(t, look) == look, (name, t)
    assert {'Qwen2.5', 'Claude', 'GB10', 'API'} <= set(found) and found['GB10'] != found['PowerEdge']
    assert 'API' in [t.get_text() for l in drawn('scaling_fit')[0].legends for t in l.get_texts()], 'also where the table has a column kind of its own'


@pytest.mark.parametrize('name', ['size_vs_scores', 'size_vs_latency', 'accuracy_energy', 'scaling_fit', 'size_score_cost_bubble', 'cost_vs_performance'])
def test_names_are_not_on_marks_and_their_lines_do_not_cross(name):
    from matplotlib.text import Annotation
    from wattnb.plots.style import lines_cross
    fig, _ = drawn(name)
    fig.draw_without_rendering()
    for ax in fig.axes:
        named = [t for t in ax.texts if isinstance(t, Annotation) and t.anncoords == 'offset points' and t.get_text()]
        boxes = np.array([t.get_window_extent().extents for t in named]).reshape(-1, 4) + [1.5, 1.5, -1.5, -1.5]
        marks = np.array([ax.transData.transform((l.get_xdata()[0], l.get_ydata()[0])) for l in ax.lines if len(l.get_xdata()) == 1 and l.get_marker() in 'osD']).reshape(-1, 2)
        assert not boxes_hit(boxes, np.hstack([marks - 2.5, marks + 2.5])).any(), (name, [named[i].get_text() for i in np.flatnonzero(boxes_hit(boxes, np.hstack([marks - 2.5, marks + 2.5])).any(1))])
        ties = [t for t in ax.texts if isinstance(t, Annotation) and not t.get_text() and t.arrowprops and t.anncoords == 'offset points']
        s = fig.dpi / 72
        lines = np.array([np.r_[p := ax.transData.transform(t.xy), p + np.array(t.xyann) * s] for t in ties]).reshape(-1, 4)
        assert not lines_cross(lines, lines).any(), name


@settings(max_examples=15)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=25))
def test_labels_never_overlap_wherever_the_points_are(points):
    from wattnb.plots.style import new_figure, place_labels
    fig, ax = new_figure('page', 4)
    ax.set_xlim(0, 1); ax.set_ylim(0, 1)
    xs, ys = zip(*points)
    labels = [f'model {i} 4bit' for i in range(len(points))]
    lost = place_labels(ax, xs, ys, labels)
    assert overlaps(fig) == [] and sorted(lost + [t.get_text() for t in ax.texts if t.get_text()]) == sorted(labels)


def test_intervals_have_their_own_n():
    from wattnb.scoring.statistics import clopper_pearson
    for r in made().tables.runs.itertuples():
        assert (r.na_low, r.na_high) == pytest.approx(clopper_pearson(round(r.na * 8), 8))
    df = drawn('accuracy_by_type')[1]
    assert df.drop_duplicates('type').set_index('type')['n'].to_dict() == dict(Table=15, Figure=9, Quote=40, Math=4, is_NA=8)


def test_groups_differ_without_colour():
    "Lightness and hatch distinguish the groups in print."
    looks = [(round(grey_level(c), 1), h) for c, h, *_ in GROUPS.values()]
    assert len(set(looks)) == len(looks)
    fig, _ = drawn('error_classes')
    assert len({p.get_hatch() for p in fig.axes[0].patches}) >= 5


def test_files_and_folders(tmp_path, capsys):
    ws = synthetic_runs(tmp_path, [*DEMO[2:4], *DEMO[11:13]], 20, 4)
    few = ['overall_ranking', 'cross_system_latency', 'significance_groups']
    t = draw_all(ws, only=few)
    at = {str(p.parent.relative_to(ws.plots)): [] for p in ws.plots.rglob('*.png')}
    for p in ws.plots.rglob('*.*'): at[str(p.parent.relative_to(ws.plots))].append(p.name)
    three = lambda *names: sorted(f'{n}.{x}' for n in names for x in ('csv', 'png', 'svg'))
    assert {k: sorted(v) for k, v in at.items()} == {'made_QA': three(*few), 'GB10/made_QA': three('overall_ranking'), 'PowerEdge/made_QA': three('overall_ranking')}
    assert {r['machine'] for r in t} == {'all', 'GB10', 'PowerEdge'}
    one = (ws.plots / 'GB10/made_QA/overall_ranking.csv').read_text()
    assert 'PowerEdge' not in one and one != (ws.plots / 'made_QA/overall_ranking.csv').read_text()
    assert main(['plots', '--root', str(tmp_path), '--datafile', 'made_QA', '--only', 'significance_groups', '--env', 'GB10', '--json']) == 0
    rows = json.loads(capsys.readouterr().out)['figures']
    assert [r['state'] for r in rows] == ['drawn'] and len(rows[0]['files']) == 3
    assert main(['plots', '--root', str(tmp_path), '--list', '--json']) == 0
    assert json.loads(capsys.readouterr().out) == list(FIGURES)
    assert main(['plots', '--root', str(tmp_path), '--only', 'significance_group_']) == 2
    assert 'did you mean significance_groups' in capsys.readouterr().err
    truth = (ws.data / 'made_QA.csv').read_text()
    (tmp_path / 'elsewhere.csv').write_text(truth); (ws.data / 'made_QA.csv').unlink()
    for p in ws.experiments.rglob('results.json'): p.unlink()
    assert not FigureData(ws, None, 'made_QA').scored
    assert len(FigureData(ws, None, 'made_QA', tmp_path / 'elsewhere.csv').scored) == 5


def test_error_for_an_empty_workspace_names_the_next_command(tmp_path, capsys):
    for d in ('data', 'artifacts/experiments'): (tmp_path / d).mkdir(parents=True)
    assert main(['plots', '--root', str(tmp_path)]) != 0
    err = capsys.readouterr().err
    assert 'wattnb run' in err and len(err.strip().splitlines()) == 1


def test_fewer_questions_smoke_and_unfinished_runs_are_named(tmp_path):
    ws = synthetic_runs(tmp_path, DEMO[:3], 20, 4, ensembles=0)
    base = ws.experiments / 'PowerEdge/made_QA'
    (base / 'qwen1.5b-bench').rename(base / 'qwen1.5b-smoke')
    s = json.loads((base / 'qwen3b-bench/summary.json').read_text()); s['status'] = 'running'
    (base / 'qwen3b-bench/summary.json').write_text(json.dumps(s))
    data = FigureData(ws, None, 'made_QA')
    assert [e.label for e in data.scored] == ['qwen7b-bench'] and len(data.left_out) == 2
    assert list(data.tables.runs['name']) == ['qwen7b-bench'] and data.tables.left_out == data.left_out


def test_gallery_has_every_figure_with_words():
    page = Gallery(made(), ['significance_groups', 'cross_system_latency'])._repr_html_()
    assert page.count('<figure id="') == page.count('alt="') == 2 and '://' not in page
    assert all(p.alt in page for p in (FIGURES['significance_groups'], FIGURES['cross_system_latency'])) and 'Also as <code>cross_system_latency_breakdown</code>' in page


def test_every_figure_is_described():
    for p in FIGURES.values(): assert p.title and p.needs.endswith('.') and len(p.alt) > 30 and not p.alt.endswith('.'), p.name
    assert not set(ALIASES) & set(FIGURES) and set(ALIASES.values()) <= set(FIGURES)


def test_an_alias_is_the_same_picture_under_another_name(tmp_path):
    "Either name can be drawn; of WattBot's names both files are written in any case."
    ws = synthetic_runs(tmp_path, [*DEMO[2:4], *DEMO[11:13], *DEMO[14:16]], 20, 4)
    some = {a: n for a, n in ALIASES.items() if a in COPIES or a in ('told_apart', 'accuracy_usd')}
    draw_all(ws, only=[*dict.fromkeys(some.values()), *some])
    folder = ws.plots / 'made_QA'
    for alias, name in some.items():
        for x in ('png', 'svg', 'csv'): assert (folder / f'{alias}.{x}').read_bytes() == (folder / f'{name}.{x}').read_bytes()
    draw_all(ws, only='cost_vs_score', out=tmp_path / 'one')
    assert {p.name for p in (tmp_path / 'one/made_QA').iterdir()} == {f'cost_vs_score.{x}' for x in ('png', 'svg', 'csv')}
    assert draw('overall_scores', FigureData(ws, None, 'made_QA'))[1].equals(draw('overall_ranking', FigureData(ws, None, 'made_QA'))[1])
    assert set(COPIES) == {'overall_scores', 'cost_vs_score', 'cross_system_latency_breakdown'} and {'told_apart', 'score_breakdown_models', 'accuracy_usd'} < set(ALIASES)


def test_the_page_has_every_figure_and_says_truly_what_is_missing(tmp_path):
    ws = synthetic_runs(tmp_path, DEMO[:3], 20, 4, ensembles=0)
    stale = ws.plots / 'made_QA/machines.png'
    stale.parent.mkdir(parents=True); stale.write_bytes(b'of an earlier day')
    t = draw_all(ws)
    folder = ws.plots / 'made_QA'
    page, rows = (folder / 'index.html').read_text(), {r['figure']: r for r in t if r['machine'] == 'all'}
    assert set(rows) == {*FIGURES, *COPIES} and not stale.exists()
    for name, r in rows.items():
        drawn_here = (folder / f'{name}.png').exists()
        assert (r['state'] == 'drawn') == drawn_here == bool(not r['why']), name
        if name in FIGURES: assert page.count(f'id="{name}"') == 1 and (f'src="{name}.png"' in page) == drawn_here
    assert rows['machines']['why'].startswith('No two of 3 runs differ in the machine alone') and rows['cost_vs_performance']['why'].startswith('No run has a price')
    assert 'Qwen2.5 7B' in page and 'PowerEdge/made_QA/qwen7b-bench' in page and 'alt=""' not in page
    assert not [n for n in ('energy_stages', 'tokens', 'time_stages', 'retrieval') if rows[n]['state'] == 'missing']


def test_long_names(tmp_path):
    "Very long names on three machines: nothing collapses, collides or reads alike."
    import warnings
    plan = [('PowerEdge', 'qwen7b', '4bit'), ('GB10', 'qwen7b', '8bit'), ('Lab-A6000', 'qwen7b', 'bf16'), ('GB10', 'qwen14b', '8bit'),
            ('Lab-A6000', 'phi3-mini', 'bf16'), ('PowerEdge', 'mistral7b', '4bit')]
    ws = synthetic_runs(tmp_path, plan, 40, 6, 'run-with-a-very-long-name-that-does-not-fit-beside-a-figure', 1, 'long_QA')
    src, faults = FigureData(ws, None, 'long_QA'), {}
    with warnings.catch_warnings():
        warnings.simplefilter('error') # such as a layout that collapsed
        for name in ('paired_differences', 'significance_groups', 'accuracy_energy', 'error_classes'):
            fig, df = draw(name, src)
            assert not is_note(fig), name
            if got := overlaps(fig) + missing_numbers(fig, numbers(name, df)): faults[name] = got
            if 'label' in df: assert set(df['label']) <= {e.label for e in src.scored}, 'the table keeps the full names'
    assert faults == {}
    fig, df = draw('significance_groups', src)
    shown = [t.get_text() for ax in fig.axes for t in ax.get_yticklabels() if t.get_text()]
    assert set(shown) == set(src.names.values()) and max(map(len, shown)) <= 34, 'the name of a run does not depend on that of its folder'


def test_a_bare_tree_is_only_read(tmp_path):
    import shutil
    made()
    tree = tmp_path / 'from-elsewhere'
    shutil.copytree(made().ws.root / 'artifacts/experiments', tree)
    truth_file = made().ws.root / 'data/made_QA.csv'
    before = {p: p.stat().st_mtime_ns for p in tree.rglob('*')}
    for argv in (['plots', '--only', 'overall_ranking'], ['report']): assert main([*argv, '--root', str(tree)]) == 2
    assert main(['plots', '--only', 'overall_ranking', '--root', str(tree), '--ground-truth', str(truth_file), '--output', str(tmp_path / 'out')]) == 0
    assert (tmp_path / 'out/made_QA/overall_ranking.png').exists()
    assert len(Report(tree, ground_truth=truth_file).rows) == len(find_runs(tree))
    assert {p: p.stat().st_mtime_ns for p in tree.rglob('*')} == before


@pytest.mark.skipif(SHARED is None, reason='no recorded runs here')
def test_recorded_runs(tmp_path):
    import shutil
    for d in ('data', 'artifacts/experiments'): (tmp_path / d).mkdir(parents=True)
    shutil.copy(SHARED / 'data/train_QA.csv', tmp_path / 'data')
    shutil.copytree(SHARED / 'recorded/PowerEdge', tmp_path / 'artifacts/experiments/PowerEdge')
    src = FigureData(Workspace.find(tmp_path), None, 'train_QA')
    n = set(src.tables.runs['n'])
    assert len(n) == 1 and src.tables.runs['label'].is_unique
    for name in set(FIGURES) - {'ensemble_frontier'}:
        fig, df = draw(name, src)
        assert (name, overlaps(fig)) == (name, [])
        assert is_note(fig) or (name, missing_numbers(fig, numbers(name, df))) == (name, [])


if __name__ == '__main__':
    if len(sys.argv) < 3 or sys.argv[1] != '--update' or set(sys.argv[2:]) - set(FIGURES): sys.exit(f'{__doc__}\nNames: {", ".join(FIGURES)}')
    old = json.loads(HASHES.read_text())
    new = {n: perceptual_hash(drawn(n)[0]) if n in sys.argv[2:] else old[n] for n in FIGURES if n in sys.argv[2:] or n in old}
    HASHES.write_text(json.dumps(new, indent=0) + '\n')
    print(f'{len(sys.argv) - 2} baselines written to {HASHES.name}' + ''.join(f', {n} removed' for n in old if n not in new))
