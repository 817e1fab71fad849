"The shapes of the registry's models, counted: parameters, embeddings and experts are those that the registry states, within 2 %."
import pytest

pytest.importorskip('torch')
from wattnb.llm.memory import kv_bytes_per_token
from wattnb.llm.random_weights import empty_model, shape_config
from wattnb.llm.registry import load_registry
from wattnb.llm.shapes import kv_bytes_of, shape_of, shipped_shapes

REGISTRY = load_registry()
LOCAL = [e for e in REGISTRY.values() if e.local]


def test_every_local_model_has_a_shape_and_every_shape_a_model():
    assert [e.key for e in LOCAL if shape_of(e) is None] == []
    assert set(shipped_shapes()) == {e.id for e in LOCAL}


@pytest.mark.parametrize('id', sorted({e.id for e in LOCAL}))
def test_the_parameters_of_a_shape_are_those_of_the_registry(id):
    "The model is built without memory (torch's meta device), so what is counted is what transformers would load."
    e = next(e for e in LOCAL if e.id == id)
    config = shape_config(shape_of(e), e.key)
    m = empty_model(config)
    outer = {x.weight for x in m.modules() if type(x).__name__.endswith('Embedding') and getattr(x, 'weight', None) is not None} | {m.get_output_embeddings().weight}
    found = dict(params_b=sum(p.numel() for p in m.parameters()), embedding_b=sum(p.numel() for p in outer),
                 experts_b=sum(p.numel() for n, p in m.named_parameters() if '.experts.' in n and p.ndim == 3))
    for name, n in found.items():
        stated = getattr(e, name) or 0.
        assert stated == pytest.approx(n / 1e9, rel=.02), f'{e.key}: {name} is {stated} in the registry and {n / 1e9:.4g} by its shape'
    assert kv_bytes_of(e) == kv_bytes_per_token(config) > 0 # without transformers as with it
