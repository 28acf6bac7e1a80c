"""A Python in which some packages are not installed, whatever lies in its folders; children are the same.

Read by the interpreter when it starts, before anything else. VISRAG_TEST_ABSENT names the packages that cannot be
imported, VISRAG_TEST_ABSENT_DISTRIBUTIONS the distributions that have no version; both with commas between.
"""

import importlib.machinery
import importlib.metadata
import os
import sys

PACKAGES = set(filter(None, os.environ.get("VISRAG_TEST_ABSENT", "").split(",")))
DISTRIBUTIONS = set(filter(None, os.environ.get("VISRAG_TEST_ABSENT_DISTRIBUTIONS", "").split(",")))


class Installed(importlib.machinery.PathFinder):
    """Looks where Python looks, and finds nothing of these."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname.partition(".")[0] in PACKAGES:
            return None
        return super().find_spec(fullname, path, target)

    @classmethod
    def find_distributions(cls, *args, **kwargs):
        for distribution in super().find_distributions(*args, **kwargs):
            name = distribution.metadata["Name"] or ""
            if name.lower().replace("_", "-") not in DISTRIBUTIONS:
                yield distribution


if PACKAGES:
    sys.meta_path[:] = [Installed if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
