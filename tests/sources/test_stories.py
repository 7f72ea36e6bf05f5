"""The builtin stories: the same everywhere, many, correct, and with endings that look back."""

import re
from collections import Counter
from hashlib import sha256
from itertools import islice

import pytest

from ncn.sources import stories
from ncn.sources.stories import write_stories

BRAIN_SCAN = "Timmy wanted an apple. He looked in the box, but it was empty."
OPENING = "Once upon a time, there was a tiny dragon who loved to"
END_OF_STORY = "\n<|endoftext|>\n"


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]+", text)


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    return list(write_stories(10_000, seed=42))


@pytest.fixture(scope="module")
def told(corpus: list[str]) -> list[str]:
    """Stories of both dialects."""
    return [*corpus, *write_stories(2_000, 43, "second")]


@pytest.fixture(scope="module")
def occurrences(corpus: list[str]) -> Counter[str]:
    return Counter(word for story in corpus for word in words(story))


def test_the_stories_of_a_seed_are_the_same_bytes_everywhere() -> None:
    digest = sha256(END_OF_STORY.join(write_stories(50, seed=42)).encode()).hexdigest()
    assert digest == "9244c0b1ceaa1b116eaecf8ef1e81919238cc027b60f415211f1691216e2fb2e"


def test_a_story_depends_on_its_index_and_not_on_how_many_are_written(corpus: list[str]) -> None:
    assert list(write_stories(20, seed=42)) == corpus[:20]
    assert list(islice(write_stories(10**12, seed=42), 20)) == corpus[:20]


def test_another_seed_tells_other_stories(corpus: list[str]) -> None:
    # Neighbouring seeds too: no story of one may be a shifted story of the other.
    assert not set(write_stories(500, seed=43)) & set(corpus)


def test_the_second_dialect_tells_the_same_stories_in_the_same_words() -> None:
    """But for pronouns (`her` is `him` and `his`) and articles (a hat orange, an orange hat)."""
    told = zip(write_stories(300, 43), write_stories(300, 43, "second"), strict=True)
    for first, second in told:
        gendered = r"\b(he|she|him|her|his|an?)\b"
        pair = [Counter(words(re.sub(gendered, "", text.lower()))) for text in (first, second)]
        assert pair[0] == pair[1]


def test_in_the_second_dialect_other_words_follow() -> None:
    first, second = ("".join(write_stories(300, 43, each)) for each in ("first", "second"))
    colors = f"({'|'.join(words(stories.TWO['color']))})"
    toys = f"({'|'.join(words(stories.ONE['toy']))})"
    for pattern, here, there in (
        (rf"\b{colors} {toys}\b", first, second),
        (rf"\b{toys} {colors}\b", second, first),
        (r"\b(said|asked) [A-Z]", first, second),
        (r"boy named (\w+)\. (He|\1 was \w+, and he)\b", first, second),
        (r"girl named (\w+)\. (He|\1 was \w+, and he)\b", second, first),
    ):
        assert re.search(pattern, here), pattern
        assert not re.search(pattern, there), pattern


def test_ten_thousand_stories_are_at_least_8_mb(corpus: list[str]) -> None:
    assert sum(len((story + END_OF_STORY).encode()) for story in corpus) >= 8_000_000


def test_stories_differ_in_their_beginnings_and_in_their_ends(corpus: list[str]) -> None:
    assert len(set(corpus)) == len(corpus)
    sentences = [re.split(r"(?<=[.!?])\s+", story) for story in corpus]
    assert len({(*story[:2], story[-1]) for story in sentences}) > 0.99 * len(corpus)


@pytest.mark.parametrize("text", [BRAIN_SCAN, OPENING])
def test_the_words_of_the_prompts_are_common(text: str, occurrences: Counter[str]) -> None:
    assert {word: occurrences[word] for word in words(text) if occurrences[word] < 20} == {}


def test_the_pattern_of_the_brain_scan_is_told_often(corpus: list[str]) -> None:
    pattern = re.compile(r"[Hh]e looked in the \w+, but it was empty\.")
    assert sum(pattern.search(story) is not None for story in corpus) > 1000


def test_a_small_vocabulary_serves_all_stories(occurrences: Counter[str]) -> None:
    assert 900 <= len(occurrences) <= 1500


def test_nearly_every_story_turns_at_but(corpus: list[str]) -> None:
    assert sum("but" in words(story.lower()) for story in corpus) >= 0.99 * len(corpus)


def test_the_ending_returns_to_the_hero_and_to_something_of_the_first_paragraph(
    corpus: list[str],
) -> None:
    names = {*words(stories.BOYS), *words(stories.GIRLS), *words(stories.PETS)}
    spread = Counter(word for story in corpus for word in set(words(story)))
    telling = {word for word, count in spread.items() if count < 0.25 * len(corpus)} - names
    returns = 0
    for story in corpus:
        first, *_, last = (set(words(paragraph)) for paragraph in story.split("\n\n"))
        named = first & last & names
        returns += bool(named) and (len(named) > 1 or bool(first & last & telling))
    assert returns >= 0.9 * len(corpus)


def test_the_text_is_clean_ascii_without_stray_blanks_or_markup(told: list[str]) -> None:
    flaw = re.compile(r"[^\x20-\x7e\n]|\s{3}|  | \n|\n |(?<!\n)\n(?!\n)|^\s|\s$| [.,!?]|[][{}<>|]")
    assert [story for story in told if flaw.search(story)] == []


def test_articles_fit_and_sentences_begin_with_capitals(told: list[str]) -> None:
    flaw = re.compile(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]|\. [a-z]|\n[a-z]|^[a-z]|\b(\w+) \1\b")
    assert [match.group() for story in told for match in flaw.finditer(story)] == []


def test_every_paragraph_closes_its_quotes_and_ends_its_sentence(told: list[str]) -> None:
    paragraphs = {paragraph for story in told for paragraph in story.split("\n\n")}
    assert {p for p in paragraphs if p.count('"') % 2 or p.rstrip('"')[-1] not in ".!?"} == set()


def test_no_two_words_run_together(occurrences: Counter[str]) -> None:
    tables = (*stories.ONE.values(), *stories.TWO.values(), *stories.TOGETHER.values())
    names = (stories.BOYS, stories.GIRLS, stories.PETS, stories.ANIMALS, stories.HOUSES)
    rest = (stories.SIZES, stories.PLACES, *stories.RULES.values(), *stories.PLOTS.values())
    source = words(" ".join((*tables, *names, *rest, "he him his she her boy girl")).lower())
    assert {word for word in occurrences if word.lower() not in source} == set()


def test_an_unknown_fact_is_an_error_and_not_an_empty_word() -> None:
    facts = stories.Facts(fruit="apple")
    assert "{A fruit}, {a fruit}, {Fruit}".format_map(facts) == "An apple, an apple, Apple"
    with pytest.raises(KeyError, match="flute"):
        "{a flute}".format_map(facts)
