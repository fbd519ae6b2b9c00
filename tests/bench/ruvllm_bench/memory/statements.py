"""Pairs of statements of our own, labelled: does the new one supersede the old one?

Two halves that share no attribute, no value and no sentence: rules are made on one, and told what they are worth on
the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

POSITIVE = ("update", "contradiction", "negation", "numbers")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two statements, and what the new one is to the old one."""

    old: str
    new: str
    label: str

    @property
    def supersedes(self) -> bool:
        """Whether the old one holds no longer."""
        return self.label in POSITIVE


@dataclass(frozen=True, slots=True)
class _Slot:
    """An attribute that has one value at a time: how it is said, {e} of whom, {v} the value.

    `later` says that it has changed, `ends` that it is so no more, `finer` says the same more precisely.
    """

    said: tuple[str, ...]
    values: tuple[str, ...]
    later: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    finer: tuple[str, ...] = ()
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class _Half:
    entities: tuple[str, ...]
    slots: tuple[_Slot, ...]
    things: tuple[str, ...]
    systems: tuple[_Slot, ...]
    additive: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    written: tuple[Pair, ...]


_TEST = _Half(
    entities=("Marta", "Oliver", "Priya", "Sven", "my brother", "Dr. Okafor", "our landlord", "Yuki"),
    slots=(
        _Slot(
            ("{e} lives in {v}.", "{e}'s home is in {v}.", "{e} resides in {v}."),
            ("Porto", "Gdansk", "Nairobi", "Quito", "Bristol"),
            ("{e} moved to {v} last month.", "{e} has relocated to {v}.", "{e} now lives in {v}."),
            ("{e} no longer lives in {v}.", "{e} has left {v} for good."),
            ("{e} lives in the old town of {v}.", "{e} lives in {v}, close to the harbour."),
        ),
        _Slot(
            ("{e} works for {v}.", "{e} is employed at {v}.", "{e} has a job at {v}."),
            ("Siemens", "the city library", "a bakery", "Novartis", "the zoo"),
            ("{e} started a new job at {v}.", "{e} joined {v} in autumn.", "{e} works for {v} now."),
            ("{e} quit the job at {v}.", "{e} does not work for {v} any more."),
            ("{e} works for {v} as a driver.", "{e} works part-time for {v}."),
        ),
        _Slot(
            ("{e}'s favourite colour is {v}.", "The colour that {e} likes best is {v}."),
            ("green", "orange", "violet", "turquoise"),
            ("{e}'s favourite colour is {v} these days.", "By now {e}'s favourite colour is {v}."),
            ("{e}'s favourite colour isn't {v} any longer.",),
            ("{e}'s favourite colour is a dark {v}.",),
        ),
        _Slot(
            ("{e} is married to {v}.", "{e}'s spouse is {v}."),
            ("Tom", "Leila", "Gabriel", "Wen"),
            ("{e} is married to {v} now.",),
            ("{e} is divorced from {v}.", "{e} is no longer married to {v}."),
            ("{e} has been married to {v} for ten years.",),
        ),
        _Slot(
            ("{e} has {v} children.", "{e} is a parent of {v} children."),
            ("two", "three", "four", "5"),
            ("{e} has {v} children now.",),
            numeric=True,
        ),
        _Slot(
            ("{e} drives a {v}.", "{e}'s car is a {v}."),
            ("Volvo", "Skoda", "Tesla", "Fiat"),
            ("{e} switched to a {v}.", "{e} drives a {v} now."),
            ("{e} doesn't drive a {v} any more.", "{e} sold the {v}."),
            ("{e} drives a blue {v}.",),
        ),
        _Slot(
            ("{e}'s phone number is {v}.", "You can reach {e} at {v}."),
            ("555-0142", "555-0177", "555-0199"),
            ("{e}'s new phone number is {v}.", "{e}'s phone number changed to {v}."),
            numeric=True,
        ),
        _Slot(
            ("{e} is {v} years old.", "{e} is {v}."),
            ("31", "32", "44", "45"),
            ("{e} is {v} years old now.", "{e} turned {v} today."),
            numeric=True,
        ),
    ),
    things=("the billing service", "our web shop", "the office", "the staging cluster", "the weekly meeting"),
    systems=(
        _Slot(
            ("The database of {e} is {v}.", "{e} uses {v} as its database.", "{e} stores its data in {v}."),
            ("MySQL", "PostgreSQL", "MongoDB", "CockroachDB"),
            ("We migrated {e} to {v}.", "{e} uses {v} as its database now."),
            ("{e} does not use {v} as its database any more.",),
            ("The database of {e} is {v} in a managed instance.",),
        ),
        _Slot(
            ("{e} listens on port {v}.", "The port of {e} is {v}."),
            ("8080", "9090", "3000", "7443"),
            ("{e} now listens on port {v}.", "The port of {e} was changed to {v}."),
            numeric=True,
        ),
        _Slot(
            ("{e} starts at {v}.", "The start of {e} is at {v}."),
            ("9 am", "10 am", "2 pm", "15:30"),
            ("{e} was moved to {v}.", "From now on {e} starts at {v}."),
            numeric=True,
        ),
        _Slot(
            ("{e} costs {v} a month.", "The monthly price of {e} is {v}."),
            ("$40", "$55", "90 euros", "120 euros"),
            ("{e} costs {v} a month now.", "The monthly price of {e} rose to {v}."),
            numeric=True,
        ),
        _Slot(
            ("{e} runs on {v}.", "{e} is hosted on {v}."),
            ("AWS", "Azure", "Hetzner", "our own rack"),
            ("{e} was moved from there to {v}.", "{e} runs on {v} now."),
            ("{e} no longer runs on {v}.",),
            ("{e} runs on {v} in Frankfurt.",),
        ),
        _Slot(
            ("The owner of {e} is {v}.", "{v} is responsible for {e}.", "{v} owns {e}."),
            ("Ines", "the platform team", "Rahul", "Bea"),
            ("{v} took over {e}.", "The new owner of {e} is {v}."),
            ("{v} is no longer responsible for {e}.",),
        ),
    ),
    additive=(
        (("{e} likes {v}.", "{e} enjoys {v}."), ("jazz", "hiking", "olives", "chess")),
        (("{e} visited {v}.", "{e} travelled to {v} once."), ("Rome", "Peru", "Oslo", "Seoul")),
        (("{e} bought {v}.",), ("a lamp", "a bicycle", "two chairs", "a drill")),
        (("{e} read {v}.", "{e} has read {v}."), ("Emma", "Dune", "Ulysses", "Beloved")),
        (("{e} speaks {v}.",), ("Polish", "Hindi", "French", "Swahili")),
        (("{e} has a {v}.",), ("cat", "piano", "garden", "sister")),
        (("{e} met {v} at the conference.",), ("Lara", "Ken", "Mo", "Ulla")),
    ),
    written=(
        Pair("The release is planned for Tuesday.", "The release has been postponed to Friday.", "update"),
        Pair("The wifi password is blue-heron-7.", "The wifi password is now red-kite-9.", "update"),
        Pair("Marta is a vegetarian.", "Marta is not a vegetarian any more.", "negation"),
        Pair("Marta eats no meat.", "Marta eats meat again.", "negation"),
        Pair("The API allows 100 requests per minute.", "The API allows 250 requests per minute.", "numbers"),
        Pair("Oliver is single.", "Oliver is engaged.", "update"),
        Pair("The build takes 12 minutes.", "The build takes 4 minutes.", "numbers"),
        Pair("We deploy on Fridays.", "We do not deploy on Fridays.", "negation"),
        Pair("Our main language is Java.", "Our main language is Kotlin.", "contradiction"),
        Pair("The door code is 4711.", "The door code is 0815.", "contradiction"),
        Pair("Sven has a dog called Rex.", "Sven's dog Rex is five.", "unrelated"),
        Pair("The shop opens at 9.", "The shop closes at 18.", "unrelated"),
        Pair("Priya's sister lives in Bonn.", "Priya lives in Basel.", "unrelated"),
        Pair("The frontend uses React.", "The backend uses Django.", "unrelated"),
        Pair("Oliver was in Rome in March.", "Oliver was in Oslo in June.", "unrelated"),
        Pair("The meeting on Monday starts at 9.", "The meeting on Thursday starts at 11.", "unrelated"),
        Pair("Yuki wants to move to Porto.", "Yuki lives in Osaka.", "unrelated"),
        Pair("The test database is MySQL.", "The production database is PostgreSQL.", "unrelated"),
        Pair("Marta works for Siemens.", "Marta's husband works for Bosch.", "unrelated"),
        Pair("The summer sale ends on 3 July.", "The winter sale ends on 3 January.", "unrelated"),
        Pair("Sven thinks that Go is fast.", "Sven thinks that Rust is safe.", "unrelated"),
        Pair("The server has 64 GB of memory.", "The server has 16 cores.", "unrelated"),
        Pair("Dr. Okafor is a surgeon.", "Dr. Okafor is a surgeon at the heart centre.", "refinement"),
        Pair("The office is in Lyon.", "The office is in Lyon, on the third floor.", "refinement"),
    ),
)
_DEV = _Half(
    entities=("Alice", "Bob", "Chen", "Fatima", "my sister", "Mr. Novak", "our manager", "Luis"),
    slots=(
        _Slot(
            ("{e} studies {v}.", "{e}'s subject is {v}."),
            ("law", "biology", "history", "physics"),
            ("{e} studies {v} now.", "{e} switched from that to {v}.", "{e} changed the subject to {v}."),
            ("{e} no longer studies {v}.", "{e} gave up {v}."),
            ("{e} studies {v} in Leuven.",),
        ),
        _Slot(
            ("{e}'s email address is {v}.", "The email address of {e} is {v}."),
            ("a@x.org", "b@y.net", "c@z.io"),
            ("{e}'s new email address is {v}.", "{e}'s email address changed to {v}."),
            ("{e}'s email address is not {v} any longer.",),
        ),
        _Slot(
            ("{e} is based in {v}.", "{e} lives in {v}."),
            ("Turin", "Ghent", "Lagos", "Austin"),
            ("{e} moved to {v}.", "{e} is based in {v} now."),
            ("{e} does not live in {v} any more.", "{e} moved away from {v}."),
            ("{e} lives in the north of {v}.",),
        ),
        _Slot(
            ("{e} works at {v}.", "{e}'s employer is {v}."),
            ("Philips", "a school", "the post office", "Nokia"),
            ("{e} now works at {v}.", "{e} changed jobs and works at {v}."),
            ("{e} stopped working at {v}.", "{e} doesn't work at {v} any more."),
            ("{e} works at {v} in the sales team.",),
        ),
        _Slot(
            ("{e}'s favourite food is {v}.", "{e} prefers {v} to all other food."),
            ("ramen", "pizza", "curry", "paella"),
            ("{e}'s favourite food is {v} now.",),
            (),
            ("{e}'s favourite food is home-made {v}.",),
        ),
        _Slot(
            ("{e} is dating {v}.", "{e}'s partner is {v}."),
            ("Noor", "Pavel", "Iris", "Jon"),
            ("{e} is dating {v} now.", "{e}'s new partner is {v}."),
            ("{e} isn't dating {v} any more.", "{e} broke up with {v}."),
        ),
        _Slot(
            ("{e} weighs {v} kilos.", "{e}'s weight is {v} kilos."),
            ("70", "74", "81", "68"),
            ("{e} weighs {v} kilos now.",),
            numeric=True,
        ),
        _Slot(
            ("{e} has {v} employees.", "{e} leads {v} employees."),
            ("six", "nine", "12", "20"),
            ("{e} has {v} employees now.",),
            numeric=True,
        ),
    ),
    things=("the search service", "our app", "the lab", "the production server", "the yoga class"),
    systems=(
        _Slot(
            ("{e} is written in {v}.", "The language of {e} is {v}."),
            ("Ruby", "Python", "Elixir", "Rust"),
            ("{e} was rewritten in {v}.", "{e} is written in {v} now."),
            ("{e} is no longer written in {v}.",),
            ("{e} is written in {v} and tested well.",),
        ),
        _Slot(
            ("{e} uses {v} for caching.", "The cache of {e} is {v}."),
            ("Redis", "Memcached", "Varnish", "Dragonfly"),
            ("We switched {e} to {v} for caching.", "{e} now uses {v} for caching."),
            ("{e} does not use {v} for caching any more.", "{e} stopped using {v} for caching."),
        ),
        _Slot(
            ("The version of {e} is {v}.", "{e} is at version {v}."),
            ("1.4", "2.0", "2.1", "3.5"),
            ("{e} was upgraded to version {v}.", "{e} is at version {v} now."),
            numeric=True,
        ),
        _Slot(
            ("{e} is scheduled for {v}.", "The date of {e} is {v}."),
            ("Monday", "Thursday", "8 May", "12 June"),
            ("{e} was rescheduled to {v}.", "{e} has been moved to {v}."),
        ),
        _Slot(
            ("The timeout of {e} is {v} seconds.", "{e} times out after {v} seconds."),
            ("10", "30", "45", "60"),
            ("The timeout of {e} was raised to {v} seconds.", "The timeout of {e} is {v} seconds now."),
            numeric=True,
        ),
        _Slot(
            ("{v} maintains {e}.", "The maintainer of {e} is {v}."),
            ("Gus", "Hanna", "the core team", "Ravi"),
            ("{v} maintains {e} now.", "The new maintainer of {e} is {v}."),
            ("{v} no longer maintains {e}.",),
        ),
    ),
    additive=(
        (("{e} loves {v}.", "{e} is fond of {v}."), ("opera", "sailing", "figs", "poker")),
        (("{e} went to {v}.",), ("Crete", "Chile", "Malmo", "Busan")),
        (("{e} ordered {v}.",), ("a desk", "new boots", "a tent", "a kettle")),
        (("{e} watched {v}.",), ("Alien", "Heat", "Amelie", "Ran")),
        (("{e} plays {v}.",), ("tennis", "the violin", "football", "go")),
        (("{e} owns a {v}.",), ("boat", "horse", "camera", "cabin")),
        (("{e} helped {v} yesterday.",), ("Lars", "Kim", "Amir", "Vera")),
    ),
    written=(
        Pair("The exam is on Monday.", "The exam was moved to Wednesday.", "update"),
        Pair("Alice is a smoker.", "Alice is no longer a smoker.", "negation"),
        Pair("Bob is vegan.", "Bob is not vegan.", "negation"),
        Pair("The limit is 10 MB.", "The limit is 25 MB.", "numbers"),
        Pair("Our office is closed on Mondays.", "Our office is not closed on Mondays any more.", "negation"),
        Pair("Chen's wife is a nurse.", "Chen is a teacher.", "unrelated"),
        Pair("The gym opens at 7.", "The gym closes at 22.", "unrelated"),
        Pair("The mobile app is written in Swift.", "The web app is written in TypeScript.", "unrelated"),
        Pair("Luis was in Paris in May.", "Luis was in Rome in July.", "unrelated"),
        Pair("Fatima would like to live in Lisbon.", "Fatima lives in Ghent.", "unrelated"),
        Pair("Alice says that tea is healthy.", "Alice says that coffee is healthy.", "unrelated"),
        Pair("Mr. Novak is a lawyer.", "Mr. Novak is a lawyer in Prague.", "refinement"),
        Pair("The cluster has 8 nodes.", "The cluster has 2 TB of disk.", "unrelated"),
        Pair("The morning class starts at 8.", "The evening class starts at 19.", "unrelated"),
        Pair("The capital of the firm is 2 million.", "The seat of the firm is Zug.", "unrelated"),
        Pair("The standup is at 9:15.", "The standup is at 9:45.", "numbers"),
    ),
)


def pairs(test: bool, count: int = 400, seed: int = 0) -> list[Pair]:
    """Labelled pairs of one half, as many of each label as can be, the written ones among them."""
    random, half = np.random.default_rng(seed), _TEST if test else _DEV
    found = dict.fromkeys(half.written)
    makers = (_update, _contradiction, _negation, _numbers, _refinement, _same, _other_slot, _other_entity, _additive)
    for n in range(100 * count):
        if len(found) >= count:
            break
        pair = makers[n % len(makers)](half, random)
        if pair is not None:
            found[pair] = None
    return list(found)


def _pick(random: np.random.Generator, some: tuple[str, ...]) -> str:
    return some[int(random.integers(len(some)))]


def _drawn(half: _Half, random: np.random.Generator) -> tuple[_Slot, str]:
    if random.random() < len(half.slots) / (len(half.slots) + len(half.systems)):
        return half.slots[int(random.integers(len(half.slots)))], _pick(random, half.entities)
    return half.systems[int(random.integers(len(half.systems)))], _pick(random, half.things)


def _two(random: np.random.Generator, values: tuple[str, ...]) -> tuple[str, str]:
    a, b = random.choice(len(values), 2, replace=False)
    return values[a], values[b]


def _line(template: str, entity: str, value: str) -> str:
    text = template.format(e=entity, v=value)
    return text[0].upper() + text[1:]


def _update(half: _Half, random: np.random.Generator) -> Pair | None:
    slot, entity = _drawn(half, random)
    old, new = _two(random, slot.values)
    if not slot.later:
        return None
    return Pair(_line(_pick(random, slot.said), entity, old), _line(_pick(random, slot.later), entity, new), "update")


def _contradiction(half: _Half, random: np.random.Generator) -> Pair | None:
    slot, entity = _drawn(half, random)
    old, new = _two(random, slot.values)
    lines = _line(_pick(random, slot.said), entity, old), _line(_pick(random, slot.said), entity, new)
    return None if slot.numeric else Pair(*lines, "contradiction")


def _negation(half: _Half, random: np.random.Generator) -> Pair | None:
    slot, entity = _drawn(half, random)
    value = _pick(random, slot.values)
    if not slot.ends:
        return None
    return Pair(
        _line(_pick(random, slot.said), entity, value), _line(_pick(random, slot.ends), entity, value), "negation"
    )


def _numbers(half: _Half, random: np.random.Generator) -> Pair | None:
    slot, entity = _drawn(half, random)
    old, new = _two(random, slot.values)
    lines = _line(_pick(random, slot.said), entity, old), _line(_pick(random, slot.said), entity, new)
    return Pair(*lines, "numbers") if slot.numeric else None


def _refinement(half: _Half, random: np.random.Generator) -> Pair | None:
    slot, entity = _drawn(half, random)
    value = _pick(random, slot.values)
    if not slot.finer:
        return None
    return Pair(_line(slot.said[0], entity, value), _line(_pick(random, slot.finer), entity, value), "refinement")


def _same(half: _Half, random: np.random.Generator) -> Pair | None:
    slot, entity = _drawn(half, random)
    value = _pick(random, slot.values)
    old, new = _line(_pick(random, slot.said), entity, value), _line(_pick(random, slot.said), entity, value)
    return None if old == new else Pair(old, new, "paraphrase")


def _other_slot(half: _Half, random: np.random.Generator) -> Pair | None:
    people = random.random() < 0.5
    slots, entity = (half.slots, _pick(random, half.entities)) if people else (half.systems, _pick(random, half.things))
    a, b = random.choice(len(slots), 2, replace=False)
    old, new = slots[a], slots[b]
    lines = [_line(_pick(random, one.said), entity, _pick(random, one.values)) for one in (old, new)]
    return Pair(lines[0], lines[1], "unrelated")


def _other_entity(half: _Half, random: np.random.Generator) -> Pair | None:
    slot, entity = _drawn(half, random)
    other = _pick(random, half.entities if entity in half.entities else half.things)
    old, new = _two(random, slot.values)
    lines = _line(_pick(random, slot.said), entity, old), _line(_pick(random, slot.said + slot.later), other, new)
    return None if other == entity else Pair(*lines, "unrelated")


def _additive(half: _Half, random: np.random.Generator) -> Pair | None:
    said, values = half.additive[int(random.integers(len(half.additive)))]
    entity = _pick(random, half.entities)
    old, new = _two(random, values)
    return Pair(_line(_pick(random, said), entity, old), _line(_pick(random, said), entity, new), "unrelated")
