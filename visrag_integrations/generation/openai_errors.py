"""What goes wrong between here and a server, in words that say what to do."""

from __future__ import annotations

from visrag_integrations.errors import GenerationError, MissingExtraError, printable

try:
    import openai as openai  # for `openai.py` too
except ImportError as err:
    raise MissingExtraError("The openai client", "openai") from err

_LONGEST = 600  # characters of the server's own words: some send a whole page of HTML

_ADVICE: list[tuple[type[Exception], str]] = [
    (openai.APITimeoutError, "did not answer in time. Raise timeout=, or ask for less (max_tokens, fewer pages)."),
    (
        openai.APIConnectionError,
        "cannot be reached or hung up. Check the URL and that the server runs, for example: "
        "vllm serve openbmb/EVisRAG-7B",
    ),
    (openai.AuthenticationError, "refuses the API key. Set OPENAI_API_KEY, or pass api_key=."),
    (openai.PermissionDeniedError, "does not let this key use the model. Use another key or model=."),
    (openai.NotFoundError, "does not have that. Check the URL (it mostly ends in /v1) and model=."),
    (openai.RateLimitError, "is busy or the quota is used up. Wait, lower max_concurrency=, or raise max_retries=."),
    (openai.InternalServerError, "failed. Look at its log; raise max_retries= if it comes back by itself."),
    (
        openai.BadRequestError,
        "refuses the request. Too many or too large pictures: show fewer pages, or raise the server's limits (vLLM: "
        "--limit-mm-per-prompt, --max-model-len). A setting it does not know: leave it out (logprobs=False, for "
        "example).",
    ),
]
_BROKEN_OFF = "broke off in the middle of an answer. Look at the server's log; ask again once it runs."


def explained(error: Exception, url: str, model: str | None, *, begun: bool = False) -> GenerationError:
    """The error as ours: which server and model, what it said, what to do; `begun` when an answer was on its way."""
    what = _BROKEN_OFF
    if not begun or isinstance(error, openai.APIStatusError):
        for kind, advice in _ADVICE:  # subclasses stand before their base classes
            if isinstance(error, kind):
                what = advice
                break
    said = printable(str(error)) or type(error).__name__
    if len(said) > _LONGEST:
        said = said[:_LONGEST] + "…"
    server = f"{url} (model {model!r})" if model else url
    return GenerationError(f"{server} {what} It said: {said}")
