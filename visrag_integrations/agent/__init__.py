"""VRAG's loop: think, search, look closer, answer; every step can be seen, kept and run again."""

from visrag_integrations.agent.agent import VRAGAgent
from visrag_integrations.agent.pictures import PictureRules
from visrag_integrations.agent.recording import Recording
from visrag_integrations.agent.steps import Crop, Finish, Observation, Problem, SearchStep, Shown, Step, Thought
from visrag_integrations.agent.steps import SearchStep as Search  # its older name
from visrag_integrations.agent.trace import Trace

__all__ = [
    "Crop",
    "Finish",
    "Observation",
    "PictureRules",
    "Problem",
    "Recording",
    "Search",
    "SearchStep",
    "Shown",
    "Step",
    "Thought",
    "Trace",
    "VRAGAgent",
]
