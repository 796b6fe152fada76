"""Conversations become texts, of which the answers are learned.

The expected texts are written out, the answers in a list of their own; what
is learned is read from a batch, as a model gets it.
"""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from fs_plugins.data.batches import Collator
from fs_plugins.data.chat import Message, answered
from fs_plugins.data.examples import Examples
from fs_plugins.data.instructions import instructions, prompt_of
from fs_plugins.data.template import Template, check_template, template_of
from fs_plugins.data.tokens import tokenise
from fs_plugins.errors import UserError

SPECIAL = [
    *("<pad>", "<unk>", "<bos>", "<eos>", "<|start|>", "<|end|>", "<|h|>"),
    *("<|/h|>", "<turn>", "</turn>", "[I]", "[/I]", "<|U|>", "<|A|>"),
]
# Each style as the models of a family have it: the name of a family, the
# template, the text of the conversation CHAT with answers in double braces,
# and the prompt of its last answer.
CHATML = (
    "{% for m in messages %}"
    "{{ '<|start|>' + m['role'] + '\\n' + m['content'] + '<|end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}"
)
STYLES = {
    "ChatML": (
        CHATML,
        "<|start|>user\na?<|end|>\n<|start|>assistant\n{{A b.<|end|>}}\n"
        "<|start|>user\nc d?<|end|>\n<|start|>assistant\n{{C.<|end|>}}\n",
    ),
    "Llama 3": (
        "{{ bos_token }}{% for m in messages %}"
        "{{ '<|h|>' + m['role'] + '<|/h|>\\n\\n' + m['content'] | trim }}"
        "{{ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|h|>assistant<|/h|>\\n\\n' }}{% endif %}",
        "<bos><|h|>user<|/h|>\n\na?<|end|><|h|>assistant<|/h|>\n\n"
        "{{A b.<|end|>}}<|h|>user<|/h|>\n\nc d?<|end|><|h|>assistant<|/h|>"
        "\n\n{{C.<|end|>}}",
    ),
    "Gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}"
        "{% set r = 'model' if m['role'] == 'assistant' else m['role'] %}"
        "{{ '<turn>' + r + '\\n' + m['content'] | trim + '</turn>\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}"
        "{{ '<turn>model\\n' }}{% endif %}",
        "<bos><turn>user\na?</turn>\n<turn>model\n{{A b.</turn>}}\n"
        "<turn>user\nc d?</turn>\n<turn>model\n{{C.</turn>}}\n",
    ),
    "Mistral": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
        "{{ '[I] ' + m['content'] + ' [/I]' }}{% else %}"
        "{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}",
        "<bos>[I] a? [/I]{{ A b.<eos>}}[I] c d? [/I]{{ C.<eos>}}",
    ),
    "thinks first": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
        "{{ '<|U|>' + m['content'] }}{% elif m['role'] == 'assistant' %}"
        "{{ '<|A|>' + m['content'].split('</think>')[-1] + eos_token }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|A|><think>\\n' }}{% endif %}",
        "<bos><|U|>a?<|A|>{{A b.<eos>}}<|U|>c d?<|A|>{{C.<eos>}}",
    ),
    "thinks of nothing": (
        "{% for m in messages %}{{ '<|start|>' + m['role'] + '\\n' }}"
        "{% if loop.last and m['role'] == 'assistant' %}"
        "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
        "{{ m['content'] + '<|end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}"
        "{% endif %}",
        "<|start|>user\na?<|end|>\n<|start|>assistant\n{{A b.<|end|>}}\n"
        "<|start|>user\nc d?<|end|>\n<|start|>assistant\n"
        "{{<think>\n\n</think>\n\nC.<|end|>}}\n",
    ),
    "no prompt": (  # writes the header of an answer, but not when asked
        "{% for m in messages %}"
        "{{ '<|start|>' + m['role'] + '\\n' + m['content'] + '<|end|>\\n' }}"
        "{% endfor %}",
        "<|start|>user\na?<|end|>\n<|start|>assistant\n{{A b.<|end|>}}\n"
        "<|start|>user\nc d?<|end|>\n<|start|>assistant\n{{C.<|end|>}}\n",
    ),
    "no end": (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}"
        "{% endif %}",
        "user: a?\nassistant:{{ A b.\n}}user: c d?\nassistant:{{ C.\n<eos>}}",
    ),
}
ALPACA = (
    "### Instruction:\na?\n\n### Response:\n{{A b.<eos>}}\n\n"
    "### Instruction:\nc d?\n\n### Response:\n{{C.<eos>}}"
)
CHAT = (*answered("a?", "A b."), *answered("c d?", "C."))


def bytes_tokenizer():
    """As GPT-2, Llama 3 and Qwen have it, with a few merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s*[\r\n]+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    text = "user assistant model \n\n think ### Instruction: Response: " * 9
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def blanks_tokenizer():
    """As Llama 2, Mistral and Gemma have it: blanks begin the tokens."""
    letters = [chr(i) for i in range(33, 127)] + ["\u2581", "\n"]
    merges = [("\u2581", "A"), ("\u2581", "C"), ("u", "s"), ("\u2581", "us")]
    vocab = [*SPECIAL, *letters, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(
        models.BPE({w: i for i, w in enumerate(vocab)}, merges)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return tokenizer


KINDS = {"bytes": bytes_tokenizer(), "blanks": blanks_tokenizer()}
# What a tokenizer adds by itself to every text.
ADDS = {"nothing": "$A", "bos": "<bos> $A", "both": "<bos> $A <eos>"}


def tokenizer_of(kind, adds="nothing", template=None):
    backend = Tokenizer.from_str(KINDS[kind].to_str())
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=SPECIAL[4:],
        chat_template=template,
    )
    numbers = [(t, backend.token_to_id(t)) for t in ("<bos>", "<eos>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=ADDS[adds], special_tokens=numbers
    )
    return tokenizer


class Slow:
    """A tokenizer that does not know the places of its tokens."""

    is_fast = False

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __call__(self, text, add_special_tokens=True):
        assert isinstance(text, str) or all(isinstance(t, str) for t in text)
        return self._tokenizer(text, add_special_tokens=add_special_tokens)

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)


def batch_of(tokenizer, template, chats, most=400):
    """The tokens of each conversation, and whether each is learned."""
    examples = Examples(
        [(chat[-2].content, chat[-1].content) for chat in chats],
        [0] * len(chats),
        ("all",),
        True,
        chats=chats,
        template="auto",
    )
    examples = template.applied_to(examples)
    tokens = tokenise(examples, tokenizer, most, "none", template=template)
    batch = Collator(tokens, tokenizer.pad_token_id)(list(range(len(tokens))))
    rows = []
    for ids, mask, labels in zip(
        batch["input_ids"].tolist(),
        batch["attention_mask"].tolist(),
        batch["labels"].tolist(),
        strict=True,
    ):
        size = sum(mask)
        flags = [label != -100 for label in labels]
        assert not any(flags[size:])
        assert all(
            label in (-100, number)
            for label, number in zip(labels, ids, strict=True)
        )
        rows.append((ids[:size], flags[:size]))
    return rows


def marked(tokenizer, ids, flags):
    """The text, with what is learned in double braces."""
    text, was = "", False
    for place, flag in enumerate([*flags, False]):
        if flag != was:
            text += "{{" if flag else "}}"
        was = flag
        if place < len(ids):
            text += shown(tokenizer, ids[place])
    return text


def shown(tokenizer, number):
    token = tokenizer.convert_ids_to_tokens(number)
    if token in SPECIAL:
        return token
    return tokenizer.decode([5, number]).removeprefix(tokenizer.decode([5]))


def own(tokenizer, style, **options):
    return Template(tokenizer, style, STYLES[style][0], **options)


every_style = pytest.mark.parametrize("style", STYLES)
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_style
@every_kind
@pytest.mark.parametrize("adds", ADDS)
def test_all_answers_are_learned_with_their_ends(style, kind, adds):
    """Nothing else is, and nothing is there twice."""
    tokenizer = tokenizer_of(kind, adds)
    ((ids, flags),) = batch_of(tokenizer, own(tokenizer, style), [CHAT])
    text = marked(tokenizer, ids, flags)
    if kind == "blanks":  # It begins texts with a blank.
        text = text.removeprefix(" ")
    assert text == STYLES[style][1]


@every_style
@every_kind
def test_the_tokens_are_those_of_transformers(style, kind):
    """Where the template ends its answers; else a text has an end, too."""
    tokenizer = tokenizer_of(kind, "both")
    ((ids, _),) = batch_of(tokenizer, own(tokenizer, style), [CHAT])
    expected = tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in CHAT],
        chat_template=STYLES[style][0],
        return_dict=False,
    )
    if style == "no end":
        expected = [*expected, tokenizer.eos_token_id]
    assert ids == expected


@every_style
def test_only_the_last_answer_is_learned(style):
    tokenizer = tokenizer_of("bytes")
    template = own(tokenizer, style, last_only=True)
    ((ids, flags),) = batch_of(tokenizer, template, [CHAT])
    expected = re.sub(
        "{{(.*?)}}", r"\1", STYLES[style][1], count=1, flags=re.DOTALL
    )
    assert marked(tokenizer, ids, flags) == expected


@every_style
def test_without_places_the_parts_are_tokenised_alone(style):
    tokenizer = Slow(tokenizer_of("bytes"))
    ((ids, flags),) = batch_of(tokenizer, own(tokenizer, style), [CHAT])
    assert marked(tokenizer, ids, flags) == STYLES[style][1]


@every_kind
@pytest.mark.parametrize("adds", ADDS)
def test_the_format_of_alpaca_in_several_turns(kind, adds):
    """The tokenizer's own begin is there, once; its end is the template's."""
    tokenizer = tokenizer_of(kind, adds)
    template = Template(tokenizer, "alpaca")
    ((ids, flags),) = batch_of(tokenizer, template, [CHAT])
    text = marked(tokenizer, ids, flags)
    begin = "" if adds == "nothing" else "<bos>"
    assert text.replace("<bos> ", "<bos>").lstrip() == begin + ALPACA
    assert ids.count(tokenizer.eos_token_id) == 2


@every_style
@every_kind
@pytest.mark.parametrize("adds", ADDS)
def test_an_end_in_the_data_is_not_doubled(style, kind, adds):
    tokenizer = tokenizer_of(kind, adds)
    template = own(tokenizer, style)
    end = tokenizer.convert_ids_to_tokens(template.ends[-1])
    chat = tuple(
        m._replace(content=m.content + end) if m.role == "assistant" else m
        for m in CHAT
    )
    expected, found = batch_of(tokenizer, template, [CHAT, chat])
    assert found == expected


@pytest.mark.parametrize("style", ["alpaca", "none"])
@every_kind
@pytest.mark.parametrize("adds", ADDS)
def test_begin_and_end_are_not_doubled(style, kind, adds):
    """Where the user's texts have them already, and the tokenizer adds."""
    tokenizer = tokenizer_of(kind, adds)
    template = Template(tokenizer, style)
    system = Message("system", "<bos>s")
    ((ids, _),) = batch_of(
        tokenizer, template, [(system, *answered("a?", "A.<eos>"))]
    )
    examples = Examples([("<bos>a?", "A.<eos>")], [0], ("all",), True)
    pair = tokenise(examples, tokenizer, 99, "none").ids.tolist()
    (prompt,) = template.prompt_ids(["<bos>a?"])
    assert list(prompt) == pair[: len(prompt)]
    for found in (ids, pair):
        assert found.count(tokenizer.bos_token_id) == 1
        assert found.count(tokenizer.eos_token_id) == 1
        assert found[-1] == tokenizer.eos_token_id


@every_style
@every_kind
def test_a_prompt_has_the_tokens_of_training(style, kind):
    tokenizer = tokenizer_of(kind, "both")
    template = own(tokenizer, style)
    ((ids, flags),) = batch_of(tokenizer, template, [CHAT])
    ((*asked,),) = template.prompt_ids([template.prompt(CHAT[:3])])
    if style == "thinks first":  # The model is led to think, and is not here.
        answer = tokenizer.convert_tokens_to_ids("<|A|>")
        asked = asked[: len(asked) - asked[::-1].index(answer)]
    assert ids[: len(asked)] == asked
    assert flags[len(asked)] and not flags[len(asked) - 1]


@pytest.mark.parametrize(
    "style, token",
    [("ChatML", "<|end|>"), ("Gemma", "</turn>"), ("Mistral", "<eos>"),
     ("no end", "<eos>"), ("thinks first", "<eos>")],
)  # fmt: skip
def test_an_answer_ends_with_what_was_learned(style, token):
    tokenizer = tokenizer_of("bytes")
    ends = own(tokenizer, style).ends
    assert set(ends) == {
        tokenizer.eos_token_id,
        tokenizer.convert_tokens_to_ids(token),
    }


def test_an_end_that_is_no_special_token_ends_an_answer(tmp_path):
    """Some models have added it without saying that it is special."""
    backend = Tokenizer.from_str(KINDS["bytes"].to_str())
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>"
    )
    tokenizer.add_tokens(["<|stop|>", "  "])
    source = (
        "{% for m in messages %}{{ m['content'] + '<|stop|>' }}{% endfor %}"
    )
    template = Template(tokenizer, "x", source)
    stop = tokenizer.convert_tokens_to_ids("<|stop|>")
    assert template.ends == sorted([tokenizer.eos_token_id, stop])
    assert template.ending == "<|stop|>"


contents = st.text("ab .\n\u00e9\u4e2d", min_size=1, max_size=6).filter(
    lambda text: text.strip()
)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(STYLES)),
    st.sampled_from(sorted(KINDS)),
    st.lists(st.tuples(contents, contents), min_size=1, max_size=3),
    st.booleans(),
)
def test_every_answer_of_any_conversation_is_learned(
    style, kind, pairs, last_only
):
    """What is learned are the answers, and only letters of them."""
    tokenizer = tokenizer_of(kind)
    template = own(tokenizer, style, last_only=last_only)
    chat = tuple(m for pair in pairs for m in answered(*pair))
    ((ids, flags),) = batch_of(tokenizer, template, [chat])
    text, parts = template.learned(chat)
    answers = [answer for _, answer in pairs][-1 if last_only else 0 :]
    assert len(parts) == len(answers)
    for (begin, end), answer in zip(parts, answers, strict=True):
        assert answer.strip() in text[begin:end]
        assert not set("?[") & set(text[begin:end]), "no question, no header"
    learned = [i for i, flag in zip(ids, flags, strict=True) if flag]
    known = [answer.strip() for answer in answers]
    if kind == "bytes":
        for answer in known:
            assert answer in tokenizer.decode(learned)
    assert len(learned) < len(ids)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(contents, st.none() | contents, contents), min_size=1,
        max_size=4,
    )
)  # fmt: skip
def test_the_template_of_alpaca_is_the_format_of_instructions(rows):
    """So instructions have the same tokens either way."""
    tokenizer = tokenizer_of("bytes", "bos")
    template = Template(tokenizer, "alpaca")
    examples = instructions(
        [{"instruction": a, "input": b, "output": c} for a, b, c in rows]
    )
    for chat, (prompt, _), (a, b, _) in zip(
        examples.chats, examples.texts, rows, strict=True
    ):
        assert template.prompt(chat[:-1]) == prompt
        assert prompt == prompt_of({"instruction": a, "input": b})
    assert template.applied_to(examples).chats == ()
    as_chats = Examples(**{**vars(examples), "template": "auto"})
    as_chats = template.applied_to(as_chats)
    assert as_chats.chats
    found = tokenise(as_chats, tokenizer, 200, "none", template=template)
    expected = tokenise(examples, tokenizer, 200, "none")
    for row, (*_, answer) in enumerate(rows):
        if answer[0] in "\n ":  # may share a token with the prompt's end
            continue
        part = slice(expected.start(row), int(expected.ends[row]))
        own_part = slice(found.start(row), int(found.ends[row]))
        assert np.array_equal(found.ids[own_part], expected.ids[part])
        assert found.learned[own_part].argmax() == expected.prompts[row]


def test_what_an_instruction_is_about_follows_it():
    tokenizer = tokenizer_of("bytes")
    chat = answered("do", "A.", "this")
    for name, text in (
        ("alpaca", "### Instruction:\ndo\n\n### Input:\nthis\n\n### Respo"),
        ("none", "do\n\nthis"),
    ):
        assert Template(tokenizer, name).prompt(chat[:1]).startswith(text)
    assert "user\ndo\n\nthis<|end|>" in own(tokenizer, "ChatML").prompt(
        chat[:1]
    )


def test_worked_examples_are_turns_of_their_own():
    """They come after the system prompt of the question."""
    tokenizer = tokenizer_of("bytes")
    template = own(tokenizer, "ChatML")
    system = Message("system", "s")
    shot = (Message("system", "other"), *answered("a?", "A."))
    prompt = template.prompt((system, *CHAT[2:3]), [shot])
    assert prompt == (
        "<|start|>system\ns<|end|>\n<|start|>user\na?<|end|>\n"
        "<|start|>assistant\nA.<|end|>\n<|start|>user\nc d?<|end|>\n"
        "<|start|>assistant\n"
    )


def test_a_system_prompt_is_for_those_without_one():
    tokenizer = tokenizer_of("bytes")
    template = own(tokenizer, "ChatML", system="be brief")
    begin = "<|start|>system\n{}<|end|>\n<|start|>user\na?"
    assert template.prompt(CHAT[:1]).startswith(begin.format("be brief"))
    for text in ("own", ""):
        chat = (Message("system", text), *CHAT)
        assert template.prompt(chat[:2]).startswith(begin.format(text))
    plain = Template(tokenizer, "alpaca", system="be brief")
    assert plain.prompt(CHAT[:1]).startswith("be brief\n\n### Instruction:")


def test_what_is_too_long_is_cut_or_left_out():
    """An answer that is cut off is learned as far as it is there."""
    tokenizer = tokenizer_of("bytes")
    template = own(tokenizer, "ChatML")
    ((whole, flags),) = batch_of(tokenizer, template, [CHAT])
    first = flags.index(True)
    for most in (first + 1, first + 3, len(whole) - 1):
        ((ids, kept),) = batch_of(tokenizer, template, [CHAT], most)
        assert (ids, kept) == (whole[:most], flags[:most])
    with pytest.raises(UserError, match=r"llm\.tok_len"):
        batch_of(tokenizer, template, [CHAT], first)
    last_only = own(tokenizer, "ChatML", last_only=True)
    short = answered("a?", "A b.")
    rows = batch_of(tokenizer, last_only, [CHAT, short], first + 2)
    assert [ids for ids, _ in rows] == [whole[: first + 2]]


def test_cached_tokens_are_those_of_the_same_template(tmp_path):
    tokenizer = tokenizer_of("bytes")
    tokenizer.__class__.__module__ = "transformers.x"  # is cached
    examples = Examples([("a?", "A.")], [0], ("all",), True)
    digests = []
    templates = [
        own(tokenizer, "ChatML"),
        own(tokenizer, "Llama 3"),
        own(tokenizer, "ChatML", system="s"),
        Template(tokenizer, "alpaca"),
    ]
    for _ in range(2):
        for template in templates:
            tokens = tokenise(
                template.applied_to(examples),
                tokenizer,
                99,
                str(tmp_path),
                template=template,
            )
            digests.append(tokens.digest())
    assert len(set(digests)) == 4 and digests[:4] == digests[4:]


def test_a_template_that_tells_the_date_is_the_same_tomorrow():
    tokenizer = tokenizer_of("bytes")
    source = "{{ strftime_now('%Y') }}" + CHATML
    prompt = Template(tokenizer, "x", source).prompt(CHAT[:1])
    assert prompt.startswith("26 Jul 2024<|start|>user")


class Chosen:
    def __init__(self, template="", system="", loss="all"):
        self.template, self.system, self.loss = template, system, loss


def test_which_template_is_taken(tmp_path, notes):
    plain, chatty = tokenizer_of("bytes"), tokenizer_of("bytes", "bos", CHATML)
    assert template_of(Chosen(), "auto", chatty).source == CHATML
    assert not notes
    fallen = template_of(Chosen(), "auto", plain)
    assert fallen.source == Template(plain, "alpaca").source
    assert any("no chat template" in sentence for sentence in notes)
    file = tmp_path / "own.jinja"
    file.write_text("{{ 'x' }}" + CHATML)
    chosen = template_of(Chosen(str(file)), "auto", chatty)
    assert chosen.prompt(CHAT[:1]).startswith("x<|start|>")
    assert template_of(Chosen("alpaca"), "auto", chatty).adds_special
    folder = tmp_path / "adapter"
    folder.mkdir()
    chosen.write(folder)
    assert (folder / "chat_template.jinja").read_text() == file.read_text()


@pytest.mark.parametrize(
    "source, system, words",
    [
        (STYLES["Gemma"][0], "be brief", "System role not supported .leave t"),
        (
            "{% for m in messages %}",
            "",
            "does not render .*Unexpected end of t",
        ),
        ("{{ messages[0].x.y }}", "", "does not render"),
        ("{{ 1 / 0 }}", "", "division by zero"),
        ("a fixed text", "", "leaves out the answers"),
        (
            "{% for m in messages %}{% if m.role != 'assistant' %}"
            "{{ m.content }}{% endif %}{% endfor %}",
            "",
            "leaves out the answers",
        ),
    ],
)
def test_a_template_that_does_not_render_is_one_sentence(
    source, system, words
):
    template = Template(tokenizer_of("bytes"), "x.jinja", source, system)
    with pytest.raises(UserError, match=rf"^fedsa\.chat\.template: .*{words}"):
        batch_of(tokenizer_of("bytes"), template, [CHAT])


def test_a_template_that_is_none_is_refused(tmp_path):
    for name in ("", "auto", "alpaca", "none"):
        check_template(name)
    with pytest.raises(UserError, match=r"did you mean 'alpaca'\?"):
        check_template("alpacca")
    with pytest.raises(UserError, match="Is a directory"):
        check_template(str(tmp_path))
    file = tmp_path / "x.jinja"
    for content, words in ((b" \n", "is empty"), (b"\xff\xfe", "UTF-8")):
        file.write_bytes(content)
        with pytest.raises(UserError, match=words):
            check_template(str(file))


def test_texts_of_a_loader_are_as_they_are_unless_a_template_is_named():
    tokenizer = tokenizer_of("bytes")
    examples = Examples([("a?", "A.")], [0], ("all",), True)
    as_is = template_of(Chosen(), examples.template, tokenizer)
    assert as_is.applied_to(examples).chats == ()
    own_template = own(tokenizer, "ChatML")
    assert own_template.applied_to(examples).chats == [answered("a?", "A.")]


def test_a_digest_knows_what_is_learned():
    tokenizer = tokenizer_of("bytes")
    examples = Examples([("c d?", "C.")], [0], ("all",), True, chats=[CHAT])
    digests = {
        tokenise(examples, tokenizer, 99, "none", template=template).digest()
        for template in (
            own(tokenizer, "ChatML"),
            own(tokenizer, "ChatML", last_only=True),
        )
    }
    assert len(digests) == 2
    assert json.dumps(CHAT)  # what a digest is made of
