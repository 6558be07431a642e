"""Runs tests of python3's own and prints how each ended, in the order of their names. Why one failed goes to standard error."""
import importlib
import sys
import unittest
from test import support

support.use_resources = []  # nothing that needs the network, much time or a sound card
support.verbose = 0


class Result(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.how = {}

    def note(self, test, how):
        self.how.setdefault(test.id(), how)

    def addSuccess(self, test):
        self.note(test, "ok")

    def addSkip(self, test, reason):
        self.note(test, "skipped")

    def addExpectedFailure(self, test, err):
        self.note(test, "ok")

    def bad(self, test, how, err):
        self.note(test, how)
        print(test.id(), how, self._exc_info_to_string(err, test), file=sys.stderr, flush=True)

    def addFailure(self, test, err):
        self.bad(test, "failed", err)

    def addError(self, test, err):
        self.bad(test, "error", err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.bad(test, "failed", err)

    def addUnexpectedSuccess(self, test):
        self.note(test, "unexpected success")


result = Result()
for name in sys.argv[1:]:
    module = importlib.import_module("test." + name)
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    suite.run(result)
for name, how in sorted(result.how.items()):
    print(name, how)
