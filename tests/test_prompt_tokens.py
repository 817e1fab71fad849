"The text of a request stays text: it becomes no control token, no date, no switch; and what a template would do with a model that is not declared."
import copy
from dataclasses import replace

import pytest

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
from hypothesis import given, settings, strategies as st

from test_local import ASKED, SMOL, THINK_TEMPLATE, make, tokenizer # noqa: F401 (`tokenizer` is a fixture)
from wattnb.llm.protocol import Request
from wattnb.llm.chat_template import encode_prompt, plain_text, render_prompt
from wattnb.llm.local import LocalModel

# special tokens, further tokens that are not special, template: as the families have them
FAMILIES = dict(
    smollm2=((), (), None),
    llama3=(('<|begin_of_text|>', '<|start_header_id|>', '<|end_header_id|>', '<|eot_id|>', '<|python_tag|>', '<|reserved_special_token_0|>'), (),
            "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}<|start_header_id|>assistant<|end_header_id|>\n\n"),
    gemma=(('<bos>', '<eos>', '<start_of_turn>', '<end_of_turn>'), ('\n\n', '<table>', '<unused7>'),
           "<bos>{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}<start_of_turn>model\n"),
    mistral=(('<s>', '</s>', '[INST]', '[/INST]', '[AVAILABLE_TOOLS]'), (), "<s>{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"),
    llama2=(('<s>', '</s>'), (), "<s>{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"), # the marks are plain text there
    qwen3=(('<|endoftext|>', '<|im_start|>', '<|im_end|>'), ('<think>', '</think>', '<tool_call>'),
           "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"),
    gpt_oss=(('<|start|>', '<|message|>', '<|channel|>', '<|end|>', '<|return|>'), (), "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}<|start|>assistant"),
    none=((), (), ''),
)


@pytest.fixture(scope='module')
def tokenizers(tokenizer):
    out = {}
    for name, (special, further, template) in FAMILIES.items():
        t = out[name] = copy.deepcopy(tokenizer)
        t.add_special_tokens(dict(additional_special_tokens=list(special)))
        t.add_tokens(list(further))
        if template is not None: t.chat_template = template or None
    return out


def control(tok, text):
    "(ids of special tokens and of those that the template writes, counts of its marks) in a prompt."
    ids = {i for i, t in tok.added_tokens_decoder.items() if t.special or t.content.strip() and t.content in (tok.chat_template or '')}
    marks = [m for m in ('[INST]', '[/INST]') if m in (tok.chat_template or '')]
    return sorted(i for i in encode_prompt(tok, SMOL, text) if i in ids), [text.count(m) for m in marks]


@pytest.mark.parametrize('family', FAMILIES)
@settings(max_examples=60)
@given(data=st.data())
def test_no_text_of_a_request_becomes_a_control_token(tokenizers, family, data):
    "Whatever passages and questions hold, the prompt has the control tokens of the template around empty text, one for one."
    tok = tokenizers[family]
    marks = [t.content for t in tok.added_tokens_decoder.values()] + ['[INST]', '[/INST]', '<<SYS>>', '<think>', '</think>']
    piece = st.one_of(st.sampled_from(marks), st.sampled_from(marks).map(lambda m: m[:len(m) // 2] + marks[0] + m[len(m) // 2:]), st.text(max_size=6), st.sampled_from([' ', '\n', '\n\n', 'system', 'PUE 1.2', '\u200b']))
    text = st.lists(piece, max_size=8).map(''.join)
    system, user = 'S' + data.draw(text), 'U' + data.draw(text) # neither is empty: a template may leave out an empty one
    assert control(tok, render_prompt(tok, SMOL, Request('q', system, user))) == control(tok, render_prompt(tok, SMOL, Request('q', 'S', 'U')))


def test_text_without_marks_is_untouched(tokenizers):
    for tok in tokenizers.values():
        for text in ('', 'a < b', 'PUE [3] of 1.2 <b>', '\n\n', 'naïve ✓ 水', '<table>'): assert plain_text(tok, text) == text
        for mark in tok.all_special_tokens: assert plain_text(tok, f'x{mark}y').replace('\u200b', '') == f'x{mark}y' # nothing is lost


def test_marks_in_another_spelling(tokenizer):
    "A tokenizer that turns full-width letters into plain ones first takes them for the same mark."
    from tokenizers import AddedToken, normalizers
    tok = copy.deepcopy(tokenizer)
    tok.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace('\u200b', '')]) # and the gap is dropped
    tok.add_tokens([AddedToken('<|turn|>', special=True, normalized=True)])
    tok.chat_template = '{% for m in messages %}<|turn|>{{ m.content }}{% endfor %}'
    for text in ('a <|turn|> b', 'a \uff1c|turn|\uff1e b'):
        assert control(tok, render_prompt(tok, SMOL, Request('q', '', text))) == control(tok, render_prompt(tok, SMOL, Request('q', '', 'a b'))), text


DATED = "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}Today: {{ date_string }} / {{ strftime_now('%Y-%m-%d') }}\n{% for m in messages %}{{ m.content }}{% endfor %}"

def test_the_prompt_is_the_same_on_every_day(tmp_path, tokenizer):
    "Templates that write today's date get a fixed one, which the record holds; the hash of a reply's prompt is of the text that the model read."
    kept = tokenizer.chat_template
    try:
        tokenizer.chat_template = DATED
        entry = make(tmp_path / 'dated', tokenizer, 'llama')
    finally: tokenizer.chat_template = kept
    with LocalModel(entry) as m:
        assert m.prompt_text(ASKED[0]).startswith('Today: 26 Jul 2024 / 2024-07-26\n') and m.info['template']['date'] == '2024-07-26'
        dated = m.complete(ASKED[:2])
    with LocalModel(make(tmp_path / 'plain', tokenizer, 'llama')) as m:
        assert m.info['template']['date'] is None and len(m.info['template']['sha256']) == 64
        plain = m.complete(ASKED[:2])
    hashes = [r.prompt_hash for r in dated + plain]
    assert len(set(hashes)) == 4 and all(len(h) == 16 for h in hashes)


@pytest.mark.parametrize('switch', ['enable_thinking', 'thinking', 'reasoning'])
def test_thinking_is_turned_off_in_a_model_that_no_registry_knows(tmp_path, tokenizer, caplog, switch):
    "Its template has a switch. Left on, the thoughts would take the whole reply."
    kept = tokenizer.chat_template
    try:
        tokenizer.chat_template = THINK_TEMPLATE.replace('enable_thinking', switch)
        entry = make(tmp_path, tokenizer, 'llama')
    finally: tokenizer.chat_template = kept
    assert entry.thinking == 'no'
    with caplog.at_level('INFO', 'wattnb'), LocalModel(entry) as m:
        assert m.info['template']['thinking'] == {switch: False} and 'can think, which is turned off' in caplog.text
        assert m.prompt_text(ASKED[0]).rstrip().endswith('</think>')
        r = m.complete(ASKED[:1])[0]
        assert r.text and r.reasoning_tokens == 0
    with LocalModel(replace(entry, thinking='on', thinking_tokens=5)) as m:
        assert m.info['template']['thinking'] == {switch: True} and m.prompt_text(ASKED[0]).endswith('<think>\n')


def test_a_model_that_always_thinks_has_a_budget_for_it_undeclared(tmp_path, tokenizer, monkeypatch):
    "A template that opens the thoughts and has no switch: they get a budget of their own instead of the reply's."
    import wattnb.llm.local
    monkeypatch.setattr(wattnb.llm.local, 'THINKING_TOKENS', 30)
    kept = tokenizer.chat_template
    try:
        tokenizer.chat_template = kept.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
        entry = make(tmp_path, tokenizer, 'llama')
        assert '<think>' in tokenizer.chat_template
    finally: tokenizer.chat_template = kept
    with LocalModel(entry) as m:
        r = m.complete(ASKED[:1])[0]
        assert 30 <= r.reasoning_tokens <= 30 + len(m._closing_ids) and r.reasoning and r.text and r.completion_tokens - r.reasoning_tokens <= 20


class Script:
    "A constraint that writes a text, whatever the model would."
    def __init__(self, text): self.text = text
    def __call__(self, tok, request):
        ids = tok(self.text, add_special_tokens=False)['input_ids']
        def only(generated, logits):
            out = torch.full_like(logits, float('-inf')); out[ids[min(len(generated), len(ids) - 1)]] = 0.
            return out
        return only


@pytest.fixture(scope='module')
def base_and_chat(tmp_path_factory, tokenizer):
    "A model whose tokenizer has no template, and the same one with it."
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    return [make(tmp_path_factory.mktemp('model'), t, 'llama') for t in (bare, tokenizer)]


@pytest.mark.parametrize('way', [dict(), dict(latency_mode=True)])
@pytest.mark.parametrize('more', ['\n\nUSER: And the water?\n\nASSISTANT: 96', '\n\nQuestion: How many servers?\n{"answer_value": "96"}', '\nHuman: go on', '\n\n user: more'])
def test_a_model_without_a_template_stops_before_a_turn_of_its_own(base_and_chat, way, more):
    "It has learned to continue texts: after its answer it would ask the next question and answer that. With a template the end of a turn is a token."
    (base, chat), answer, asked = base_and_chat, '{"answer_value": "1287"}', [replace(ASKED[0], max_tokens=60)]
    with LocalModel(base, constrain=Script(answer + more), **way) as m:
        r = m.complete(asked)[0]
        assert r.text == answer and r.finish_reason == 'stop' and r.completion_tokens < 60
        assert ''.join(t for t, _ in r.logprobs).strip() == answer
        assert m.complete([replace(ASKED[0], max_tokens=12)])[0].text in answer
    with LocalModel(base, constrain=Script('Question: x ' + answer), **way) as m: assert m.complete(asked)[0].text.startswith('Question: x {') # nothing would be left
    with LocalModel(chat, constrain=Script(answer + more), **way) as m: assert more.strip()[:8] in m.complete(asked)[0].text
