"""Constrained decoding: four libraries against free generation, on readable replies, speed and score.

    pip install --no-deps --target /tmp/decode llguidance xgrammar apache-tvm-ffi outlines-core lm-format-enforcer interegular
    PYTHONPATH=/tmp/decode python benchmarks/constrained.py --questions 16 --max-new-tokens 192

All write replies to the same full prompts with the embedded model, greedy, one batch each, in one process. What a library
compiles once per vocabulary is done before; what it compiles per question counts. Processor seconds do not depend on who else
uses the machine.
"""
import argparse, json, sys, time
from dataclasses import replace

from wattnb.llm.constrained import json_constraint, narrow_schema
from wattnb.index.store import open_index
from wattnb.llm.registry import load_registry
from wattnb.llm.local import LocalModel
from wattnb.llm.prompts import answer_request
from wattnb.llm.parsing import parse_reply
from wattnb.core.questions import read_questions
from wattnb.retrieval.queries import make_settings
from wattnb.retrieval.search import retrieve
from wattnb.scoring.answers import Prediction
from wattnb.scoring.scores import score
from wattnb.core.tables import ResultTable
from wattnb.core.workspace import Workspace


def xgrammar(tokenizer, request, cache={}): # noqa: B006 (kept from call to call)
    import torch, xgrammar as xg
    state = {}
    def constrain(generated, logits):
        n = logits.shape[-1]
        if not state:
            if 'compiler' not in cache: cache['compiler'] = xg.GrammarCompiler(xg.TokenizerInfo.from_huggingface(tokenizer, vocab_size=n))
            state.update(matcher=xg.GrammarMatcher(cache['compiler'].compile_json_schema(json.dumps(narrow_schema(request)), any_whitespace=False)), mask=xg.allocate_token_bitmask(1, n), read=0)
        for t in generated[state['read']:]: state['matcher'].accept_token(t)
        state['read'] = len(generated)
        if state['matcher'].is_terminated(): out = torch.full_like(logits, float('-inf')); out[tokenizer.eos_token_id] = 0.; return out
        state['matcher'].fill_next_token_bitmask(state['mask'])
        out = logits.unsqueeze(0).clone()
        xg.apply_token_bitmask_inplace(out, state['mask'])
        return out[0]
    return constrain


def _token_bytes(tokenizer):
    "Token id → bytes, of a byte-level BPE."
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)] # bytes that are their own characters (GPT-2's table)
    back = {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in shown)}
    special = set(tokenizer.all_special_ids)
    return {i: bytes(back[c] for c in t) for t, i in tokenizer.get_vocab().items() if i not in special and all(c in back for c in t)}


def outlines(tokenizer, request, cache={}): # noqa: B006 (kept from call to call)
    import torch
    from outlines_core import Guide, Index, Vocabulary
    from outlines_core.json_schema import build_regex_from_schema
    if 'vocabulary' not in cache:
        by = {}
        for i, b in _token_bytes(tokenizer).items(): by.setdefault(b, []).append(i)
        cache['vocabulary'] = Vocabulary(tokenizer.eos_token_id, by)
    guide, state = Guide(Index(build_regex_from_schema(json.dumps(narrow_schema(request))), cache['vocabulary'])), dict(read=0)
    def constrain(generated, logits):
        for t in generated[state['read']:]:
            if not guide.is_finished(): guide.advance(t)
        state['read'] = len(generated)
        out = torch.full_like(logits, float('-inf'))
        keep = [tokenizer.eos_token_id] if guide.is_finished() else guide.get_tokens()
        out[keep] = logits[keep]
        return out
    return constrain


def lm_format_enforcer(tokenizer, request, cache={}): # noqa: B006 (kept from call to call)
    import torch
    from lmformatenforcer import JsonSchemaParser, TokenEnforcer, TokenEnforcerTokenizerData
    if 'data' not in cache:
        regular = [(i, tokenizer.decode([i]), False) for i in _token_bytes(tokenizer)]
        cache['data'] = TokenEnforcerTokenizerData(regular, tokenizer.decode, tokenizer.eos_token_id, False, len(tokenizer))
    enforcer = TokenEnforcer(cache['data'], JsonSchemaParser(narrow_schema(request)))
    def constrain(generated, logits):
        out, allowed = torch.full_like(logits, float('-inf')), enforcer.get_allowed_tokens(list(generated))
        keep = list(getattr(allowed, 'allowed_tokens', allowed))
        out[keep] = logits[keep]
        return out
    return constrain


WAYS = {'free': None, 'llguidance': json_constraint, 'xgrammar': xgrammar, 'outlines-core': outlines, 'lm-format-enforcer': lm_format_enforcer}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--questions', type=int, default=12)
    p.add_argument('--max-new-tokens', type=int, default=256)
    p.add_argument('--context-tokens', type=int, default=500, help='size of the passages shown')
    p.add_argument('--ways', nargs='*', default=list(WAYS), choices=list(WAYS))
    a = p.parse_args()
    entry, ws = replace(load_registry().find('smollm2-135m').on_engine('transformers'), prompt='full'), Workspace.find()
    qs = list(read_questions(ws.questions()))
    qs = qs[::max(1, len(qs) // a.questions)][:a.questions]
    found = retrieve(open_index(ws), qs, make_settings(max_tokens=a.context_tokens))
    asked, rows = [answer_request(q, r.context, entry) for q, r in zip(qs, found)], []
    for name in a.ways:
        try:
            with LocalModel(entry, precision='fp32', max_new_tokens=a.max_new_tokens, constrain=WAYS[name]) as m:
                m.complete([replace(asked[0], max_tokens=4)]) # warm: vocabularies are compiled once
                t, c = time.perf_counter(), time.process_time()
                replies = m.complete(asked)
                seconds, cpu = time.perf_counter() - t, time.process_time() - c
        except Exception as e:
            rows.append((name, *[None] * 7, f'{type(e).__name__}: {str(e)[:80]}')); continue
        answers = [parse_reply(r.text, q, f.context.doc_ids) for r, q, f in zip(replies, qs, found)]
        s = score(qs, [Prediction(q.id, x.value, json.dumps(list(x.refs)), x.status) for q, x in zip(qs, answers)])
        tokens = sum(r.completion_tokens for r in replies)
        rows.append((name, sum(x.status != 'unparsed' for x in answers) / len(qs), sum(x.parsed_by == 'json' for x in answers) / len(qs), s.overall, tokens, seconds, tokens / seconds, cpu, ''))
        print(*rows[-1], file=sys.stderr)
    print(ResultTable(['decoding', 'readable', 'whole JSON', 'score', 'tokens', 'seconds', 'tokens/s', 'processor s', 'note'], rows,
                      title=f'{len(qs)} questions, {entry.name}, float32, replies of at most {a.max_new_tokens} tokens').to_text())


if __name__ == '__main__': main()
