"""Conversations of our own in LoCoMo's form: sessions with dates, threads over several turns, questions with evidence.

Weights of a memory's search are fitted on them; what is measured with is by others (LoCoMo).
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np

from ruvllm_bench.loop.dialogues import CHAT, FACTS, NAMES

MULTI, TIME, OPEN, SINGLE, UNANSWERABLE = 1, 2, 3, 4, 5

# What two people say in turn, {n} first; (question, place of the turn that answers, category).
_THREADS: tuple[tuple[tuple[str, ...], tuple[tuple[str, int, int], ...]], ...] = (
    (
        ("Guess what, I finally got a dog!", "No way! What's the name?", "Biscuit. She already owns the couch."),
        (("What is the name of {n}'s dog?", 2, SINGLE), ("When did {n} get a dog?", 0, TIME)),
    ),
    (
        ("I had my first gig last night.", "Were you nervous?", "Terribly, my hands shook the whole first song."),
        (("How did {n} feel while performing?", 2, SINGLE), ("When was {n}'s first gig?", 0, TIME)),
    ),
    (
        (
            "We moved into the new flat!",
            "Congrats! What's the best part?",
            "The balcony. You can see the river from it.",
        ),
        (("What does {n} like most about the new home?", 2, SINGLE), ("When did {n} move?", 0, TIME)),
    ),
    (
        ("Work has been rough.", "What's going on?", "My boss wants us back in the office five days a week."),
        (("Why is {n} unhappy with work?", 2, SINGLE),),
    ),
    (
        ("I've taken up climbing.", "How did you get into that?", "A colleague dragged me along and I was hooked."),
        (("Who introduced {n} to climbing?", 2, SINGLE),),
    ),
    (
        ("My daughter had her recital yesterday.", "What did she play?", "A piece by Satie, and not one wrong note."),
        (("What music was performed by {n}'s daughter?", 2, SINGLE), ("When was the recital of {n}'s girl?", 0, TIME)),
    ),
    (
        ("I made something for the charity auction.", "What is it?", "A wooden bowl, turned from the old pear tree."),
        (("What did {n} craft for the auction?", 2, SINGLE),),
    ),
    (
        ("I passed the exam!", "Brilliant! How will you celebrate?", "Dinner with the study group at the Thai place."),
        (("How does {n} celebrate passing the test?", 2, SINGLE), ("When did {n} pass the exam?", 0, TIME)),
    ),
    (
        ("We are trying to adopt.", "That's wonderful. How far along are you?", "The home visit is done, now we wait."),
        (("At what stage is {n}'s adoption?", 2, SINGLE),),
    ),
    (
        ("I went to the lake on Sunday.", "With whom?", "Just me and a thermos. I needed quiet."),
        (("Who was with {n} at the lake?", 2, SINGLE), ("When did {n} visit the lake?", 0, TIME)),
    ),
    (
        ("My knee surgery is behind me.", "How is the recovery?", "Slow. Six weeks on crutches, the doctor says."),
        (("How long will {n} need crutches?", 2, SINGLE),),
    ),
    (
        ("I started a podcast.", "What's it about?", "Forgotten railway lines and the people who lived along them."),
        (("What topic does {n}'s show cover?", 2, SINGLE), ("What does {n} host?", 0, SINGLE)),
    ),
    (
        ("I stopped eating meat.", "What made you do it?", "A film about farms. I couldn't unsee it."),
        (("Why did {n} become a vegetarian?", 2, SINGLE),),
    ),
    (
        ("We lost our cat last week.", "Oh no, I'm so sorry. Which one?", "Old Mabel. She was eighteen."),
        (("Which pet of {n} died?", 2, SINGLE), ("When did {n}'s cat die?", 0, TIME)),
    ),
    (
        ("I'm thinking about changing careers.", "To what?", "Teaching, probably maths at a secondary school."),
        (("What job would {n} like to have instead?", 2, SINGLE),),
    ),
    (
        ("The wedding is set!", "When and where?", "In June, in my parents' orchard."),
        (("Where will {n} get married?", 2, SINGLE),),
    ),
    (
        ("I fixed the old motorbike.", "What was wrong with it?", "The carburettor. Took me three weekends."),
        (("What was broken on {n}'s motorbike?", 2, SINGLE),),
    ),
    (
        ("I joined a protest on Saturday.", "For what?", "Against closing the library in our street."),
        (("What was {n} demonstrating for?", 2, SINGLE), ("When did {n} demonstrate?", 0, TIME)),
    ),
    (
        ("I got a present from my aunt.", "Show me!", "It's a necklace with a small silver swallow, for hope."),
        (("What does the pendant of {n} stand for?", 2, SINGLE), ("Who gave {n} jewellery?", 0, SINGLE)),
    ),
    (
        ("Camping was a disaster.", "What happened?", "It poured, and a fox ate our breakfast."),
        (("Which animal stole {n}'s food?", 2, SINGLE),),
    ),
    (
        ("I'm saving up.", "For something special?", "A trip around Japan by train, next spring."),
        (("What is {n} putting money aside for?", 2, SINGLE),),
    ),
    (
        ("We had a fire drill at school.", "Did it go well?", "The hamster was forgotten, the kids still talk of it."),
        (("What was left behind at {n}'s drill?", 2, SINGLE),),
    ),
    (
        ("I finished the marathon!", "What time?", "Four hours and ten minutes, faster than I hoped."),
        (("How fast did {n} run?", 2, SINGLE), ("When did {n} run the marathon?", 0, TIME)),
    ),
    (
        ("I've been writing again.", "Poems?", "A novel this time, about a lighthouse keeper."),
        (("What is {n}'s book about?", 2, SINGLE),),
    ),
    (
        (
            "I volunteered as a mentor.",
            "What do you do there?",
            "I help teenagers with their homework and job letters.",
        ),
        (("Whom does {n} support?", 2, SINGLE),),
    ),
    (
        ("The neighbours complained.", "About what this time?", "The drums. So now I practise at the station."),
        (("Why were {n}'s neighbours annoyed?", 2, SINGLE), ("Where does {n} play now?", 2, SINGLE)),
    ),
)
# Questions that need a turn of each of several threads or facts: (said, said …), question.
_PAIRS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("I tried surfing today, swallowed half the sea.", "Played tennis with Jo, my arm is sore."),
        "Which sports has {n} tried?",
    ),
    (("The concert by The Larks was unreal.", "Saw Mona Reed live on Friday!"), "Which musicians has {n} seen?"),
    (
        ("Road trip to Porto, here we come.", "Back from Ghent, the chocolate is gone already."),
        "Which cities did {n} visit?",
    ),
    (
        ("I painted the sunset from our roof.", "My new picture is a horse, for my niece."),
        "What subjects has {n} painted?",
    ),
    (
        ("We took the kids to the museum.", "Pancakes and a picnic with the little ones today."),
        "What does {n} do with the children?",
    ),
    (("I read The Salt Path in one go.", "That novel Circe you lent me is gorgeous."), "What books has {n} read?"),
    (
        ("I spoke at the town hall about bike lanes.", "We planted trees along the canal."),
        "How does {n} help the community?",
    ),
    (("Our guinea pig Otto had babies!", "Meet Luna, our new kitten."), "What are the names of {n}'s pets?"),
)
# The other one goes on about what was said, {x}, at once or in a later session: near, and no answer.
_MORE = (
    "{x}, really? Since when?",
    "Why {x}, of all things?",
    "Ha, I would never have thought of {x}.",
    "And what does everybody at home say about {x}?",
    "I had something with {x} once, long ago.",
)
_AGAIN = (
    "By the way, how is it going with {x}?",
    "I told my mother about {x}, she was thrilled.",
    "Any news about {x}?",
    "I was reminded of {x} this morning.",
)
_GOES_ON, _COMES_BACK = 0.6, 0.4  # how often
_MOST_SILENT = 3  # turns of chat between two threads


def talks(count: int, seed: int = 0) -> dict[str, Any]:
    """Conversations as LoCoMo has them, each of about 20 sessions over half a year."""
    random = np.random.default_rng(seed)
    return {"conversations": [_talk(random) for _ in range(count)]}


def _talk(random: np.random.Generator) -> dict[str, Any]:
    pair = [NAMES[i] for i in random.choice(len(NAMES), 2, replace=False)]
    threads = list[tuple[list[str], list[tuple[str, int, int]], str]]()
    for number in random.permutation(len(FACTS))[: len(FACTS) * 2 // 3].tolist():
        said, asked, fillers = FACTS[number]
        filler = fillers[int(random.integers(len(fillers)))]
        more = _MORE[int(random.integers(len(_MORE)))].format(x=filler) if random.random() < _GOES_ON else ""
        lines = [said.format(x=filler), more]
        threads.append((lines, [(asked, 0, TIME if asked.startswith("When") else SINGLE)], ""))
        if random.random() < _COMES_BACK:
            threads.append(([_AGAIN[int(random.integers(len(_AGAIN)))].format(x=filler), ""], [], ""))
    for number in random.permutation(len(_THREADS))[: len(_THREADS) * 2 // 3].tolist():
        lines, questions = _THREADS[number]
        threads.append((list(lines), list(questions), ""))
    for number in random.permutation(len(_PAIRS))[: len(_PAIRS) * 2 // 3].tolist():
        said, asked = _PAIRS[number]
        threads += [([one, ""], [], asked) for one in said]
    owners, asked_of = dict[str, str](), dict[tuple[str, str], list[str]]()
    turns, questions = list[dict[str, Any]](), list[dict[str, Any]]()
    day, session, left = date(2023, 1, 3), 0, 0
    for number in random.permutation(len(threads)).tolist():
        if not left:
            session, left = session + 1, int(random.integers(2, 4))
            day += timedelta(int(random.integers(3, 15)))
            place = 0
        left -= 1
        lines, about, shared = threads[number]
        name = owners.setdefault(shared, pair[int(random.integers(2))]) if shared else pair[int(random.integers(2))]
        names = (name, pair[pair[0] == name])
        hour = int(random.integers(8, 21))
        for at in range(len(lines) + int(random.integers(_MOST_SILENT))):
            text = (lines[at] if at < len(lines) else "") or CHAT[int(random.integers(len(CHAT)))]
            place += 1
            turn: dict[str, Any] = {"id": f"D{session}:{place}", "session": session, "speaker": names[at % 2]}
            turns.append(
                turn
                | {"when": f"{hour}:15 on {day.day} {day:%B}, {day.year}", "text": text.format(o=names[1 - at % 2])}
            )
            for question, answering, category in about:
                if answering == at:
                    questions.append(_question(question.format(n=name), [turn["id"]], category))
            if shared and at == 0:
                asked_of.setdefault((shared, name), []).append(turn["id"])
    questions += [_question(text.format(n=name), ids, MULTI) for (text, name), ids in asked_of.items()]
    said = {question["question"] for question in questions}
    for question in [one for one in questions if one["category"] == SINGLE][::3]:  # the same of the other one
        here, there = pair if pair[0] in question["question"] else pair[::-1]
        text = question["question"].replace(here, there)
        if text not in said:
            questions.append(_question(text, question["evidence"], UNANSWERABLE))
    return {"turns": turns, "questions": questions}


def _question(text: str, evidence: list[str], category: int) -> dict[str, Any]:
    return {"question": text, "answer": "", "evidence": evidence, "category": category}
