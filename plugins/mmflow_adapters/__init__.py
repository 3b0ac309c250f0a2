"""Small trainable parts beside encoders whose weights stay: bottleneck adapters, learned prompts."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "encoder/adapter": "mmflow_adapters.adapter:Adapter",
        "encoder/prompt_tokens": "mmflow_adapters.prompt_tokens:PromptTokens",
    }
