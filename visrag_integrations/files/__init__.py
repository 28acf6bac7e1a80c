"""Files of this machine: written whole or not at all, and temporary folders that outlive no run for long."""

from visrag_integrations.files.scratch import ScratchFolder
from visrag_integrations.files.whole import whole_file, write_whole

__all__ = ["ScratchFolder", "whole_file", "write_whole"]
