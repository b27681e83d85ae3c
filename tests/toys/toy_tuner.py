"""A tuner for tests: it goes through each range in even steps, whatever comes of the trials, and remembers what it was told."""

from __future__ import annotations

from mmbench import Component, ComponentConfig, hookimpl
from mmbench.component import Trial, Tuner, Values


class ToyTunerConfig(ComponentConfig):
    most: int = 100
    most_keys: int = 9
    outside: bool = False


class Steps(Tuner):
    heard: list[list[Trial]] = []  # noqa: RUF012

    def __init__(self, config, space, higher_is_better):
        super().__init__(config, space, higher_is_better)
        if len(space) > config.most_keys:
            raise ValueError("has too many keys")

    def ask(self, trials):
        self.heard.append(list(trials))
        number = len(trials)
        if number >= self.config.most:
            return None
        return {key: self._value(each, number) for key, each in self.space.items()}

    def _value(self, each, number):
        if isinstance(each, Values):
            return each.values[number % len(each.values)]
        value = each.low + (each.high - each.low) * (number * 0.25 % 1) + 1000 * self.config.outside
        return int(value) if each.whole else value


@hookimpl
def mmbench_components():
    yield Component("tuner", "steps", "toy_tuner:Steps", "even steps", "toy_tuner:ToyTunerConfig")
