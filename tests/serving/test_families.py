"""Families of models, recognised from what their chat templates say."""

from __future__ import annotations

import pytest

from adapters.local.serving.families import family_of

TEMPLATES: dict[str, tuple[str, str, str | None]] = {
    "Qwen 2.5": (
        "{{- '<|im_start|>system\\n' }}... within <tool_call></tool_call> XML tags:\\n<tool_call>\\n"
        '{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}\\n</tool_call><|im_end|>',
        "hermes",
        None,
    ),
    "Qwen 3": (
        '<tool_call>\\n{\\"name\\"...{%- if enable_thinking is defined and enable_thinking is false %}'
        "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}",
        "hermes",
        "<think>",
    ),
    "Qwen3-Coder": (
        "{{- '<tool_call>\\n<function=example>\\n<parameter=example>\\nvalue_1\\n</parameter>' }}",
        "qwen-tags",
        None,
    ),
    "Qwen 3.5": ("<tool_call>\\n<function=f>\\n<parameter=p>...{{- '<think>\\n' }}", "qwen-tags", "<think>"),
    "Llama 3.1": (
        '{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}{{- \'{"name": "\' + tool_call.name + \'", \' }}'
        "{{- '\"parameters\": ' }}{{- tool_call.arguments | tojson }}",
        "llama",
        None,
    ),
    "Mistral 7B v0.3": ('{{- "[TOOL_CALLS] [" }}{{- tool_call.function|tojson }}', "mistral-list", None),
    "Devstral": ("{{- '[TOOL_CALLS]' + tool['function']['name'] + '[ARGS]' + arguments }}", "mistral-named", None),
    "Magistral": (
        "[TOOL_CALLS]...[ARGS]...{{- '[THINK]' + block['thinking'] + '[/THINK]' }}",
        "mistral-named",
        "[THINK]",
    ),
    "DeepSeek R1": (
        "{{'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + name + '\\n```json\\n'"
        "}}{{'<｜Assistant｜><think>\\n'}}",
        "deepseek-fenced",
        "<think>",
    ),
    "DeepSeek V3.1": (
        "{{'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + name + '<｜tool▁sep｜>' + arguments}}{{'<think>'}}",
        "deepseek",
        "<think>",
    ),
    "R1 distilled": (
        "{% set content = content.split('</think>')[-1] %}{{'<|Assistant|><think>\\n'}}",
        "hermes",
        "<think>",
    ),
    "GLM-4": ("[gMASK]<sop>{% if tools %}<|system|>{% endif %}<|observation|>", "glm-line", None),
    "GLM-4.5": (
        "<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n<arg_value>{arg-value-1}</arg_value>"
        "{{ '\\n<think></think>' }}<|observation|>",
        "glm-tags",
        "<think>",
    ),
    "Gemma 3": ("{{ '<start_of_turn>model\n' }}", "hermes", None),
    "Gemma 4": (
        "{{- '<|tool_call>call:' + function['name'] + '{' -}}{{- '<|channel>thought\\n<channel|>' -}}",
        "gemma",
        "<|channel>thought\n",
    ),
    "gpt-oss": (
        '{{- "<|start|>assistant<|channel|>analysis<|message|>" + message.thinking + "<|end|>" }}',
        "harmony",
        None,
    ),
    "Phi-4-mini": (
        "{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' }}",
        "phi",
        None,
    ),
    "Seed-OSS": ("{{ '<seed:think>' + message.reasoning_content + '</seed:think>' }}", "hermes", "<seed:think>"),
    "unknown": ("{{ messages }}", "hermes", None),
}


@pytest.mark.parametrize(("template", "calls", "thought"), TEMPLATES.values(), ids=TEMPLATES)
def test_a_family_is_known_by_its_template(template: str, calls: str, thought: str | None) -> None:
    family = family_of(template)
    assert family.calls.name == calls
    assert (family.thought.open if family.thought is not None else None) == thought
    assert family.harmony == (calls == "harmony")
