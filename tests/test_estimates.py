"Estimates of hosted models: names, sums, and that they are nowhere but in their own table."
import json, math
from importlib.util import find_spec

import pytest
from hypothesis import given, strategies as st

from wattnb.cli.command import main
from wattnb.core.workspace import UserError
from wattnb.telemetry.estimates import HostedEstimate, ecologits_names, estimate_calls, estimate_run, estimates_table
from wattnb.testing.synthetic import synthetic_runs

needs_ecologits = pytest.mark.skipif(find_spec('ecologits') is None, reason='EcoLogits is not installed')


@given(st.sampled_from(['openai', 'openrouter', 'bedrock', '']), st.text(max_size=60))
def test_any_id_has_names_or_none(provider, id):
    for maker, name in ecologits_names(provider, id): assert maker and (name or provider == 'openai')


@needs_ecologits
@given(st.lists(st.tuples(st.integers(0, 5000), st.none() | st.floats(.1, 100)), min_size=1, max_size=5))
def test_calls_add_up(calls):
    whole, parts = estimate_calls('openai', 'gpt-4.1-mini', calls), [estimate_calls('openai', 'gpt-4.1-mini', [c]) for c in calls]
    for k in ('wh', 'gco2e'): assert getattr(whole, k) == pytest.approx(math.fsum(getattr(p, k) for p in parts), rel=1e-9, abs=1e-15)
    assert whole.tokens == sum(n for n, _ in calls)


@needs_ecologits
def test_its_figures_in_our_units():
    "kWh to Wh, kg to g, and the carbon of the electricity alone."
    from ecologits.tracers.utils import llm_impacts
    raw, e = llm_impacts('openai', 'gpt-4o', 700, 9.), estimate_calls('openai', 'gpt-4o', [(700, 9.)])
    assert (e.wh_low, e.wh_high) == pytest.approx((1e3 * raw.energy.value.min, 1e3 * raw.energy.value.max))
    assert e.gco2e_high == pytest.approx(1e3 * raw.usage.gwp.value.max) and e.gco2e_high < 1e3 * raw.gwp.value.max


@needs_ecologits
def test_a_model_without_a_range_has_none():
    e = estimate_calls('openrouter', 'meta-llama/Llama-2-7b-chat', [(100, None)])
    assert e.model == 'huggingface_hub: meta-llama/Llama-2-7b-chat' and e.wh > 0


def test_without_the_extra_it_is_named():
    if find_spec('ecologits'): pytest.skip('EcoLogits is installed')
    with pytest.raises(UserError, match=r'wattnb\[ecologits\]'): estimate_calls('openai', 'gpt-4o', [(1, None)])


def test_a_run_that_was_metered_is_not_estimated(tmp_path, capsys):
    "Local runs are not in the table, and a workspace of them alone needs no EcoLogits."
    ws = synthetic_runs(tmp_path, [('PowerEdge', 'qwen7b', '4bit')], questions=10, unanswerable=1, ensembles=0)
    assert main(['estimates', '--json', '--root', str(ws.root)]) == 0
    assert json.loads(capsys.readouterr().out)['runs'] == []


@needs_ecologits
def test_a_hosted_run_is_estimated_in_its_own_columns(tmp_path, capsys):
    ws = synthetic_runs(tmp_path, [('PowerEdge', 'qwen7b', '4bit'), ('PowerEdge', 'gpt-4o-mini', ''), ('PowerEdge', 'nova-pro', '')], questions=10, unanswerable=1, ensembles=0)
    assert main(['estimates', '--json', '--root', str(ws.root)]) == 0
    known, unknown = json.loads(capsys.readouterr().out)['runs']
    assert known['run'] == 'gpt-4o-mini-bench' and 0 < known['estimated Wh low'] < known['estimated Wh'] < known['estimated Wh high']
    assert unknown['estimated Wh'] is None and 'does not know' in unknown['why not']
    for verb in ('results', 'audit'): # measured tables do not have it
        main([verb, '--json', '--root', str(ws.root)])
        assert 'estimated Wh' not in capsys.readouterr().out


def test_columns_are_called_estimated():
    t = estimates_table({'a': HostedEstimate(wh=1., gco2e=2., tokens=3)})
    assert {'Wh', 'gCO2e', 'low', 'high'}.isdisjoint(t.columns) and t.to_json()[0]['estimated Wh'] == 1.
    assert estimate_run({}, []).reason
