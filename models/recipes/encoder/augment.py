"""Other ways of saying the same task, seeded: what it is about never changes, so the label stays.

Six kinds: paraphrase templates, typos, terse and long forms, English as second-language speakers
write it, and tasks that arrive with a code snippet or a stack trace.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

_OPENERS = (
    "could you {}", "can you {} please", "i need you to {}", "please {}", "i'd like to {}", "help me {}",
    "we have to {}", "the task: {}", "next on the list: {}", "todo: {}", "hey, {}", "my boss wants us to {}",
    "let's {}", "how would you {}?", "what's the best way to {}?", "it is time to {}", "assignment: {}",
)  # fmt: skip
_ABOUT = (
    "this is about the following: {}", "question: {}", "here's what i have: {}", "{} - who can take this?",
    "{} (needed today)", "someone has to look at this: {}", "{}, any ideas?", "regarding: {}", "{} - thanks!",
)  # fmt: skip
_BEFORE = (
    "We are a small team and nobody had time for this so far.",
    "I have been postponing this for weeks.",
    "Some background first: the customer is waiting and the release is on Friday.",
    "Yesterday we agreed in the meeting that somebody should pick this up.",
    "I'm new to this project, so bear with me.",
)
_AFTER = (
    "Take the time you need, and tell me what you would do first.",
    "Explain your choices in a few sentences so that I can forward them.",
    "Keep what works today as it is; I would rather have small steps.",
    "If something is unclear, state your assumption and go on.",
    "A short summary at the end would be nice.",
)
_POLITE = re.compile(
    r"^(please|kindly|can you|could you|would you|i need to|i want to|help me|we need to|let's|you should)\s+", re.I
)
_WORD = re.compile(r"\w+")
_FILLER = frozenset(
    _WORD.findall(
        "a an the to of for with and or that which our my your this these those is are be it in on at so we i you"
        " please should can could would need needs want have has do does"
    )
)
_ARTICLE = re.compile(r"\b(?:a|an|the) ", re.I)
_SECOND_LANGUAGE = (
    (re.compile(r"\bhow (?:do|can|should) (?:i|we) ", re.I), "how to "),
    (re.compile(r"\bthere (?:is|are) ", re.I), "it have "),
    (re.compile(r"\bdoes(?:n't| not)\b", re.I), "don't"),
    (re.compile(r"\bdo(?:n't| not)\b", re.I), "not"),
    (re.compile(r"\bwe need\b", re.I), "we are needing"),
    (re.compile(r"\binformation\b", re.I), "informations"),
    (re.compile(r"\bi want\b", re.I), "i am wanting"),
)
_COURTESY = ("Dear friend, ", "Hello sir, ", "Please to ", "Kindly ", "I has problem: ", "")
_SNIPPETS = (
    "```python\ndef handle(request):\n    return process(request.data)\n```",
    "```js\nconst result = await run(input)\nconsole.log(result)\n```",
    "```sql\nSELECT id, name FROM items WHERE active = 1\n```",
    "```\n$ make build\ndone in 12.4s\n```",
    "```yaml\nname: main\nsteps:\n  - run: ./do.sh\n```",
    "```ts\nexport function load(id: string): Promise<Item> { return api.get(id) }\n```",
    "`src/main/index.ts`, line 42",
)
_TRACES = (
    'Traceback (most recent call last):\n  File "app.py", line 31, in main\n    run(config)\nValueError: bad value',
    "TypeError: Cannot read properties of undefined (reading 'id')\n    at render (/app/view.js:18:7)",
    "java.lang.NullPointerException\n\tat com.example.Service.call(Service.java:57)",
    "error: exit status 1\nnpm ERR! code ELIFECYCLE",
    "panic: runtime error: index out of range [3] with length 3",
    "[2031-04-02 10:11:12] ERROR worker: job 8812 failed after 3 tries",
)
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _lowered(text: str) -> str:
    """The first letter small, unless the word is an acronym or a name like `iOS`."""
    first = text.split(maxsplit=1)[0] if text.split() else ""
    return text[:1].lower() + text[1:] if first[1:].islower() or len(first) == 1 else text


def _bare(text: str) -> str:
    return _POLITE.sub("", text.strip().rstrip(".!?"))


def _paraphrase(text: str, rng: random.Random) -> str:
    body = _lowered(_bare(text))
    asks = text.strip().endswith("?") or len(body.split()) < 3
    return rng.choice(_ABOUT if asks else _OPENERS + _ABOUT).format(body)


def _slip(word: str, rng: random.Random) -> str:
    """A letter dropped, doubled, swapped with the next, or hit beside its key."""
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return word[:at] + word[at + 1 :]
    if kind == 1:
        return word[:at] + word[at] + word[at:]
    if kind == 2:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    row = next((row for row in _KEYS if word[at].lower() in row), "e")
    near = row[min(row.find(word[at].lower()) + 1, len(row) - 1)]
    return word[:at] + near + word[at + 1 :]


def _typos(text: str, rng: random.Random) -> str:
    words = text.split()
    long = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    for i in rng.sample(long, min(len(long), rng.choice((1, 1, 2)))):
        words[i] = _slip(words[i], rng)
    return " ".join(words).lower() if rng.random() < 0.5 else " ".join(words)


def _terse(text: str, rng: random.Random) -> str:
    """Its content words, as one types into a search box."""
    words = [word.strip(",.;:!?()\"'") for word in _bare(text).split()]
    kept = [word for word in words if word and word.lower() not in _FILLER]
    return " ".join(kept[: rng.choice((5, 7, 12))]).lower() if len(kept) > 1 else text.lower()


def _long(text: str, rng: random.Random) -> str:
    parts = [text.strip() if text.strip()[-1:] in ".?!" else f"{text.strip()}."]
    if rng.random() < 0.6:
        parts.insert(0, rng.choice(_BEFORE))
    if len(parts) == 1 or rng.random() < 0.6:
        parts.append(rng.choice(_AFTER))
    return " ".join(parts)


def _second_language(text: str, rng: random.Random) -> str:
    for pattern, said in _SECOND_LANGUAGE:
        text = pattern.sub(said, text)
    return rng.choice(_COURTESY) + _ARTICLE.sub(lambda m: "" if rng.random() < 0.7 else m[0], text)


def _with_code(text: str, rng: random.Random) -> str:
    return f"{text}\n{rng.choice(_SNIPPETS)}"


def _with_trace(text: str, rng: random.Random) -> str:
    return f"{text}\n{rng.choice(_TRACES)}"


KINDS: dict[str, Callable[[str, random.Random], str]] = {
    "paraphrase": _paraphrase,
    "typos": _typos,
    "terse": _terse,
    "long": _long,
    "second language": _second_language,
    "code": _with_code,
    "trace": _with_trace,
}
_WEIGHTS = (5, 3, 4, 2, 3, 1, 1)


def augment(text: str, rng: random.Random) -> str:
    """`text` said otherwise; `rng` decides how."""
    (kind,) = rng.choices(list(KINDS), _WEIGHTS)
    return KINDS[kind](text, rng) if text.strip() else text
