"""A page on which text, objective, options and tokenizer are changed, and the real library answers; by Gradio.

`clozelab playground` serves it on this machine alone. `launch()` does the same in Python, or in the `app.py` of a host.
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from .data import Tokenizer, train_bpe, train_characters
from .display import word_tokenizer
from .display.pages import show_page
from .errors import InputError
from .objectives import OBJECTIVES, Objective
from .objectives.options import Bounds, Option

TEXT = "Thank you for inviting me to your party last week ."
MOST_CHARACTERS, MOST_TOKENS = 400, 64
"""Of a text."""
PIECES = 60
"""Ids beside the bytes, of a tokenizer that cuts words."""

TOKENIZERS: dict[str, Callable[[str, Sequence[str]], Tokenizer]] = {
    "words": lambda text, roles: word_tokenizer(text, roles=list(roles)),
    "parts of words": lambda text, roles: train_bpe(
        [text] * 2, vocab_size=256 + PIECES + 103 + len(roles), roles=list(roles)
    ),
    "characters": lambda text, roles: train_characters([text], roles=list(roles)),
}
"""From a text and the roles that an objective needs, by name."""


def hide_these(places: Sequence[int]) -> Callable[[Tensor, Tensor, torch.Generator], Tensor]:
    """A scheme that hides the tokens at these places of the text, where they may be hidden.

    >>> import torch
    >>> from clozelab.playground import hide_these
    >>> maskable = torch.tensor([True, True, True, False])
    >>> hide_these([1, 3])(torch.arange(4), maskable, torch.Generator())
    tensor([False,  True, False, False])
    """

    def clicked(tokens: Tensor, maskable: Tensor, generator: torch.Generator) -> Tensor:
        chosen = torch.tensor([place for place in places if place < len(tokens)], dtype=torch.long)
        return maskable & torch.zeros_like(maskable).index_fill(0, chosen, True)

    return clicked


def takes_a_scheme(kind: type[Objective]) -> bool:
    """Whether the tokens to hide can be chosen: whether the objective takes a function as its scheme."""
    scheme = kind.declared_options().get("scheme")
    return scheme is not None and scheme.takes_function


def options_of(kind: type[Objective]) -> list[Option]:
    """Those that change a batch: of the class, and not of every objective's loss."""
    return [option for name, option in kind.declared_options().items() if name not in Objective.declared_options()]


def within_limits(text: str) -> str:
    """The text; raises `InputError` for none, and for one that is too long."""
    text = (text or "").strip()
    if not text:
        raise InputError("the text is empty: nothing can be hidden in it")
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"expected at most {MOST_CHARACTERS} characters, got {len(text)}")
    return text


def tokens_of(text: str, tokenizer: str) -> list[str]:
    """The tokens of a text, as many as are shown.

    >>> from clozelab.playground import tokens_of
    >>> tokens_of("the cat sat", "words")
    ['the', 'cat', 'sat']
    """
    made = TOKENIZERS[tokenizer](within_limits(text), ())
    return [piece.strip() or "␣" for piece in made.pieces(made.encode(text.strip())[:MOST_TOKENS])]


def answer(
    text: str, name: str, tokenizer: str, options: Mapping[str, Any], hidden: Sequence[int] = (), seed: int = 0
) -> str:
    """The page of `show` for one objective, as an element; or in its place what the library refuses, and why.

    `options` are those that differ from the defaults. `hidden` are places of tokens; of an objective that takes no
    scheme they are refused.

    >>> from clozelab.playground import answer
    >>> answer("the cat sat", "masked", "words", {}, hidden=[1])[:7]
    '<iframe'
    >>> print(answer("the cat sat", "masked", "words", {"mask_rate": 2.0}))
    <p role="alert">mask_rate must lie in (0, 1], got 2.0</p>
    """
    kind = OBJECTIVES[name]
    try:
        scheme = {}
        if hidden:
            if not takes_a_scheme(kind):
                raise InputError(f"{name} has no scheme, so its tokens cannot be chosen")
            scheme = {"scheme": hide_these([int(place) for place in hidden])}
        objective = kind(**{**options, **scheme})
        text = within_limits(text)
        made = TOKENIZERS[tokenizer](text, objective.roles)
        seeds, epochs = [int(seed)], [0]
        return show_page([objective], made, text, seeds=seeds, epochs=epochs, rates=(), length=MOST_TOKENS, embed=True)
    except InputError as error:
        return f'<p role="alert">{html.escape(str(error))}</p>'


def make_app() -> Any:
    """The page, a `gradio.Blocks`, which `launch` serves. Raises `InputError` where Gradio is not installed."""
    gr = _gradio()
    with gr.Blocks(title="clozelab: hide, read, predict", analytics_enabled=False) as app:
        gr.Markdown("# Hide, read, predict\nChange anything: the batch below is the one that a model would get.")
        text = gr.Textbox(TEXT, label=f"text, at most {MOST_CHARACTERS} characters", max_length=MOST_CHARACTERS)
        with gr.Row():
            name = gr.Dropdown(list(OBJECTIVES), value="masked", label="objective")
            tokenizer = gr.Dropdown(list(TOKENIZERS), value="words", label="tokens")
            seed = gr.Slider(0, 99, 0, step=1, label="seed of the noise")

        @gr.render([name, text, tokenizer, seed], [app.load, name.change, text.change, tokenizer.change])
        def controls(name: str, text: str, tokenizer: str, seed_now: int) -> None:
            kind = OBJECTIVES[name]
            options = options_of(kind)
            hidden = gr.CheckboxGroup(
                _choices(text, tokenizer),
                label="tokens to hide: click them; none, and the objective chooses",
                visible=takes_a_scheme(kind),
            )
            page = gr.HTML(answer(text, name, tokenizer, {}, (), seed_now))
            with gr.Accordion("options", open=True, visible=bool(options)), gr.Row():
                fields = [_component(gr, option) for option in options]

            def change(seed: int, chosen: list[int], *values: Any) -> str:
                said = {option: _value(option, value) for option, value in zip(options, values)}
                given = {option.name: value for option, value in said.items() if value != option.default}
                if chosen:  # the tokens that were clicked are the scheme
                    given.pop("scheme", None)
                return answer(text, name, tokenizer, given, chosen, seed)

            triggers = [seed.change, hidden.change, *(field.change for field in fields)]
            gr.on(triggers, change, [seed, hidden, *fields], page, show_progress="hidden")

    return app.queue(max_size=20)


def launch(**how: Any) -> Any:
    """Serve the page until Ctrl-C, on this machine alone unless `server_name` says otherwise; returns what is served.

    It loads nothing from elsewhere, and reports nothing to anybody. `how` are arguments of Gradio's `Blocks.launch`.
    Raises `InputError` where Gradio is not installed.
    """
    app, gr = make_app(), _gradio()
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # Gradio's own are on the web
    css = ".min_value, .max_value { color: var(--body-text-color) !important }"  # else too pale to be read
    app.launch(**{"share": False, "footer_links": [], "theme": theme, "css": css, **how})
    return app


def _gradio() -> Any:
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        return import_module("gradio")
    except ModuleNotFoundError:
        raise InputError('gradio is not installed: pip install "clozelab[playground]"') from None


def _choices(text: str, tokenizer: str) -> list[tuple[str, int]]:
    try:
        return [(token, place) for place, token in enumerate(tokens_of(text, tokenizer))]
    except InputError:
        return []


def _component(gr: Any, option: Option) -> Any:
    """What an option is changed by."""
    label = f"{option.name}: {option.help}"
    if option.kind is bool:
        return gr.Checkbox(option.default, label=label, min_width=240)
    if isinstance(option.allowed, tuple):
        none = [("none", None)] if option.may_be_none else []
        return gr.Dropdown(
            [*none, *((str(one), one) for one in option.allowed)], value=option.default, label=label, min_width=240
        )
    bounds = option.allowed
    if option.kind is float and isinstance(bounds, Bounds) and bounds.high == 1 and not option.may_be_none:
        return gr.Slider(0, 1, option.default, step=0.01, label=label, min_width=240)
    return gr.Textbox("none" if option.default is None else str(option.default), label=label, min_width=240)


def _value(option: Option, said: Any) -> Any:
    """What a field says: a number that was written, or none; the objective refuses what is neither."""
    if not isinstance(said, str):
        return said
    try:
        return option.read(said)
    except ValueError:
        return said
