"""Every registered figure on synthetic runs: labels, drawn area, drawn numbers, looks; the whole way from runs to files.

`python tests/test_plots.py --update NAME ...` renews the baselines of these figures in `tests/plot_hashes.json`, and removes those of figures
that are gone; look at the pictures before.
"""
import functools, json, re, sys, tempfile
from pathlib import Path

import numpy as np
import pytest

from wattnb.cli.command import main
from wattnb.plots.checks import hash_distance, ink_fraction, missing_numbers, overlaps, perceptual_hash
from wattnb.plots.style import grey_level, is_note, common_suffix
from wattnb.plots.registry import ALIASES, FIGURES, FigureData
from wattnb.plots.figures import Gallery, draw, draw_all
from wattnb.testing.synthetic import DEMO, synthetic_runs
from wattnb.plots.questions import GROUP_OF, GROUPS
from wattnb.plots.reports import Report
from wattnb.scoring.run_folders import find_runs
from wattnb.core.workspace import Workspace

HASHES = Path(__file__).with_name('plot_hashes.json')
CLOSE = 40  # bits of 256 that versions of matplotlib and FreeType may change
SHARED = next((p / 'shared/wattbot' for p in Path(__file__).resolve().parents if (p / 'shared/wattbot').is_dir()), None)


@functools.cache
def made() -> FigureData:
    made.folder = tempfile.TemporaryDirectory()
    return FigureData(synthetic_runs(made.folder.name), None, 'made_QA')


@functools.cache
def drawn(name): return draw(name, made())


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


def test_stacked_bars_are_the_counts_in_their_rows():
    fig, df = drawn('error_classes')
    labels, order = list(dict.fromkeys(df['label'])), list(GROUP_OF)
    for i, l in enumerate(labels):
        bars = sorted((p.get_x(), p.get_width()) for p in fig.axes[0].patches if abs(p.get_y() + p.get_height() / 2 - i) < 1e-9)
        part = df[(df['label'] == l) & (df['count'] > 0)].set_index('error_class')['count']
        assert [w for _, w in bars] == [part[c] for c in order if c in part.index]
        assert sum(w for _, w in bars) == df['n'].iloc[0]


def test_maps_are_their_tables_cell_by_cell():
    fig, df = drawn('question_map')
    wide = df.pivot(index='label', columns='id', values='error_class').loc[list(dict.fromkeys(df['label']))]
    codes = wide.map(lambda c: list(GROUPS).index(GROUP_OF[c])).to_numpy()
    image = np.asarray(fig.axes[0].images[0].get_array())
    assert sorted(map(tuple, image.T)) == sorted(map(tuple, codes.T.astype(float)))
    fig, df = drawn('agreement_heatmap')
    image, names = np.ma.filled(fig.axes[0].images[0].get_array(), np.nan), sorted({*df['a'], *df['b']})
    for r in df.itertuples():
        i, j = names.index(r.a), names.index(r.b)
        assert (image[j, i], image[i, j]) == pytest.approx((r.agreement, r.kappa), nan_ok=True)


def test_kinds_sizes_and_marks():
    df = made().tables.runs
    assert (df.loc[df['kind'] == 'API', 'estimated'].sum() >= 2) and df['active_b'].notna().sum() >= 4
    fig, _ = drawn('size_vs_scores')
    starred = [t.get_text() for l in fig.legends for t in l.get_texts() if t.get_text().endswith('*')]
    assert len(starred) == df['estimated'].sum()
    marks = {m: len([l for l in fig.axes[0].lines if l.get_marker() == m and len(l.get_xdata()) == 1 and l.get_markeredgewidth() == .4])
             for m in 'so'}
    assert marks == {'s': (df['kind'] == 'local').sum(), 'o': (df['kind'] == 'API').sum()}
    hollow = {round(float(l.get_xdata()[0]), 6) for l in fig.axes[0].lines if l.get_markerfacecolor() == 'white' and l.get_marker() in 'so'}
    assert hollow == {round(x, 6) for x in df['active_b'].dropna()}
    assert not set(drawn('unique_wins')[1]['kind']) & {'ensemble'} and 'ensemble' not in str(drawn('agreement_heatmap')[1]['a'].tolist())
    ranking = [t.get_text() for t in drawn('overall_ranking')[0].axes[0].get_yticklabels()]
    assert len(set(ranking)) == len(ranking) == len(DEMO) + 1 and sum('[ensemble]' in t for t in ranking) == 1
    assert sum('4bit' in t for t in ranking) and sum('bf16' in t for t in ranking) == 2 and sum('GB10' in t for t in ranking) == 3


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
    assert page.count('<figure id="') == page.count('alt="') == 2 and 'http' not in page
    assert all(p.alt in page for p in (FIGURES['significance_groups'], FIGURES['cross_system_latency'])) and 'Also as <code>cross_system_latency_breakdown</code>' in page


def test_every_figure_is_described():
    for p in FIGURES.values(): assert p.title and p.needs.endswith('.') and len(p.alt) > 30 and not p.alt.endswith('.'), p.name
    assert not set(ALIASES) & set(FIGURES) and set(ALIASES.values()) <= set(FIGURES)


def test_an_alias_is_the_same_picture_under_another_name(tmp_path):
    "WattBot's names of figures that show the same: both files are written, and either name can be drawn."
    ws = synthetic_runs(tmp_path, [*DEMO[2:4], *DEMO[11:13], *DEMO[14:16]], 20, 4)
    draw_all(ws, only=[*ALIASES.values(), *ALIASES])
    folder = ws.plots / 'made_QA'
    for alias, name in ALIASES.items():
        for x in ('png', 'svg', 'csv'): assert (folder / f'{alias}.{x}').read_bytes() == (folder / f'{name}.{x}').read_bytes()
    draw_all(ws, only='cost_vs_score', out=tmp_path / 'one')
    assert {p.name for p in (tmp_path / 'one/made_QA').iterdir()} == {f'cost_vs_score.{x}' for x in ('png', 'svg', 'csv')}
    assert draw('overall_scores', FigureData(ws, None, 'made_QA'))[1].equals(draw('overall_ranking', FigureData(ws, None, 'made_QA'))[1])


def test_long_names(tmp_path):
    "Very long names on three machines: nothing collapses, collides or reads alike."
    import warnings
    plan = [('PowerEdge', 'qwen7b', '4bit'), ('GB10', 'qwen7b', '8bit'), ('Lab-A6000', 'qwen7b', 'bf16'), ('GB10', 'qwen14b', '8bit'),
            ('Lab-A6000', 'phi3-mini', 'bf16'), ('PowerEdge', 'mistral7b', '4bit')]
    ws = synthetic_runs(tmp_path, plan, 40, 6, 'run-with-a-very-long-name-that-does-not-fit-beside-a-figure', 1, 'long_QA')
    src, faults = FigureData(ws, None, 'long_QA'), {}
    assert common_suffix(e.label for e in src.scored).endswith('-very-long-name-that-does-not-fit-beside-a-figure')
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
    assert len(set(shown)) == len(src.scored) and max(map(len, shown)) <= 34


def test_a_bare_tree_is_only_read(tmp_path):
    import shutil
    made()
    tree = tmp_path / 'from-elsewhere'
    shutil.copytree(made.folder.name + '/artifacts/experiments', tree)
    truth_file = Path(made.folder.name) / 'data/made_QA.csv'
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
