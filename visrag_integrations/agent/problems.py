"""What the agent tells the model: one sentence for each thing that can be wrong with a turn, and a reminder."""

from __future__ import annotations

from visrag_integrations.agent.steps import Problem
from visrag_integrations.generation.inert import inert_line

# The names are in docs/agent.md and in saved traces; the sentences are for the model, which reads no other explanation.
PROBLEMS = {
    "empty": "You wrote nothing.",
    "no_action": "Your turn holds no action, so nothing was done.",
    "cut_off": "Your turn was cut off at the token limit before its action was complete. Write less.",
    "crossed_tags": "The tags of your action are nested or not closed. Close <{tag}> before any other tag.",
    "several_actions": "You wrote {count} actions; only the first was carried out. Write one a turn, then wait.",
    "no_think": "You did not reason first. Begin your turn with <think> and </think>.",
    "unclosed_think": "You did not close <think> before your action.",
    "empty_search": "Your search is empty. Write what to look for inside <search> and </search>.",
    "repeated_search": "You searched for {query} {count} times. Search in other words, look closer, or answer.",
    "no_picture": "There is no picture to look closer at. Search for a page first.",
    "box_unreadable": "Your box {written} is not four numbers. Write <bbox>[x1, y1, x2, y2]</bbox>.",
    "box_not_finite": "Your box {written} holds something that is not a finite number.",
    "box_reversed": "Your box {written} is reversed: x1 must be less than x2, and y1 less than y2.",
    "box_empty": "Your box {written} is smaller than a pixel. The last picture is {width} x {height} pixels.",
    "box_outside": "Your box {written} lies outside the last picture, which is {width} x {height} pixels.",
    "box_clipped": "Your box {written} reaches beyond the last picture ({width} x {height} pixels); what is inside is "
    "shown.",
    "box_whole": "Your box {written} takes in the whole of the last picture. Give a smaller one, to see it larger.",
    "unshowable": "The picture of {page} cannot be shown: {reason}",
    "empty_answer": "Your answer is empty.",
    "no_answer": "You were asked to answer and did not.",
}
"""Name -> what the model is told. What stands in {braces} is filled in."""

CARRIED_OUT = frozenset({"several_actions", "no_think", "unclosed_think", "box_clipped"})
"""Problems after which the action is carried out all the same."""
REMINDER = (
    "Write <think> your reasoning </think>, then one of <search> what to look for </search>, "
    "<bbox>[x1, y1, x2, y2]</bbox> and <answer> the answer </answer>."
)
NOTHING_NEW = "No page that you have not seen fits this search. Search in other words, look closer, or answer."


def problem(name: str, **values: object) -> Problem:
    """The problem of that name, in words.

    >>> problem("box_reversed", written="[9, 9, 1, 1]").text
    'Your box [9, 9, 1, 1] is reversed: x1 must be less than x2, and y1 less than y2.'
    """
    return Problem(name, PROBLEMS[name].format(**values))


def quoted(text: str, most: int = 80) -> str:
    """Model text repeated to the model: on one line, short, without anything that reads as a tag.

    >>> quoted("<search>\\n total"), quoted("x" * 100, most=5)
    ('"‹search› total"', '"xxxx…"')
    """
    # Four times as much as is kept, because white space goes; model text may be very long.
    line = inert_line(text[: 4 * most]).replace("<", "‹").replace(">", "›")
    if len(line) > most:
        line = line[: most - 1] + "…"
    return f'"{line}"'
